//! Paths to handlers, by the resource table.
//!
//! Clients spell paths in several ways; all of them are brought into one form before they are looked up: without
//! `.json`, without a slash at the end, with dashes where they wrote underscores.

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Path, Request, State};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use model::resource::{Kind, Nested, Resource, Shape};
use model::table;
use tower::ServiceExt;

use super::errors::{Refused, method_not_allowed, no_such_path};
use crate::http;

use super::{Api, around, caller, devices, discovery, handlers, openapi, quotas};

/// The whole API.
pub fn router(api: Api) -> Router {
    let mut routes = Router::new()
        .route("/", documents(get(discovery::versions)))
        // The path as it is once `.json` is cut off.
        .route("/openapi", documents(get(openapi::openapi)))
        .route("/v2.0", documents(get(discovery::resources)))
        .route("/v2.0/extensions", documents(get(discovery::extensions)))
        .route(
            "/v2.0/extensions/{alias}",
            documents(get(discovery::extension)),
        );
    for resource in table::ALL {
        let collection = format!("/v2.0/{}", resource.path);
        routes = routes
            .route(&collection, of_collection(resource))
            .route(&format!("{collection}/{{id}}"), of_item(resource));
        if let Some((nested, parent)) = resource.nested.as_ref().zip(parent(resource)) {
            let path = format!("/v2.0/{}/{{id}}/{}", parent.path, nested.segment);
            routes = routes.route(&path, of_nested(resource, nested, parent));
        }
    }
    let routes = routes
        .merge(devices::routes().route_layer(middleware::from_fn(caller::administrators)))
        .merge(quotas::routes())
        .fallback(async || no_such_path())
        .method_not_allowed_fallback(async || method_not_allowed())
        .layer(middleware::from_fn_with_state(
            api.clone(),
            caller::identify,
        ))
        .layer(middleware::from_fn(naming_its_route))
        .with_state(api.clone());
    Router::new()
        .fallback_service(routes.map_request(in_one_spelling))
        .layer(middleware::from_fn(http::refused))
        .layer(middleware::from_fn_with_state(
            api,
            around::identified_and_logged,
        ))
}

/// A document answers GET alone; axum would let GET answer HEAD too, upstream answers 405.
pub(super) fn documents(get: MethodRouter<Api>) -> MethodRouter<Api> {
    get.head(async || method_not_allowed())
}

fn of_collection(resource: &'static Resource) -> MethodRouter<Api> {
    documents(
        get(move |State(api): State<Api>, request: Request| {
            answered(handlers::list(api, resource, None, request))
        })
        .post(move |State(api): State<Api>, request: Request| {
            answered(handlers::create(api, resource, None, request))
        }),
    )
}

fn of_item(resource: &'static Resource) -> MethodRouter<Api> {
    let methods = documents(
        get(
            move |State(api): State<Api>, InPath(id): InPath, request: Request| {
                answered(handlers::show(api, resource, id, request))
            },
        )
        .delete(
            move |State(api): State<Api>, InPath(id): InPath, request: Request| {
                answered(handlers::delete(api, resource, id, request))
            },
        ),
    );
    // Upstream has no update of connections and yet checks the body of one.
    if resource.updatable || resource.kind == Kind::L2GatewayConnection {
        methods.put(
            move |State(api): State<Api>, InPath(id): InPath, request: Request| {
                answered(handlers::update(api, resource, id, request))
            },
        )
    } else {
        methods
    }
}

fn of_nested(
    resource: &'static Resource,
    nested: &'static Nested,
    parent: &'static Resource,
) -> MethodRouter<Api> {
    let below = move |id| {
        Some(handlers::Parent {
            resource: parent,
            attribute: nested.attribute,
            id,
        })
    };
    documents(
        get(
            move |State(api): State<Api>, InPath(id): InPath, request: Request| {
                answered(handlers::list(api, resource, below(id), request))
            },
        )
        .post(
            move |State(api): State<Api>, InPath(id): InPath, request: Request| {
                answered(handlers::create(api, resource, below(id), request))
            },
        ),
    )
}

/// The resource below which a nested collection is served.
fn parent(resource: &Resource) -> Option<&'static Resource> {
    let attribute = resource.attribute(resource.nested.as_ref()?.attribute)?;
    match attribute.shape {
        Shape::Reference(kind, _) => Some(Resource::of(kind)),
        _ => None,
    }
}

/// The variable part of a path. What is no UTF-8 leads nowhere.
pub(super) struct InPath(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(part)) => Ok(Self(part)),
            Err(_) => Err(no_such_path()),
        }
    }
}

async fn answered(reply: impl Future<Output = Result<Response, Refused>>) -> Response {
    reply.await.unwrap_or_else(IntoResponse::into_response)
}

/// Lets the reply name its route, for those who measure.
async fn naming_its_route(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

fn in_one_spelling(mut request: Request) -> Request {
    let uri = request.uri();
    let path = one_spelling(uri.path());
    if path != uri.path() {
        let target = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = target.parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

fn one_spelling(path: &str) -> String {
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".json").unwrap_or(path);
    if path.is_empty() {
        return "/".to_owned();
    }
    // "", "v2.0", collection, id, collection: ids stay as they are.
    let parts = path
        .split('/')
        .enumerate()
        .map(|(place, part)| match place {
            2 | 4 => part.replace('_', "-"),
            _ => part.to_owned(),
        });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::one_spelling;

    #[test]
    fn every_spelling_of_a_path_means_the_same() {
        for (given, path) in [
            ("/", "/"),
            ("/v2.0/", "/v2.0"),
            ("/v2.0/l2_gateways.json", "/v2.0/l2-gateways"),
            ("/v2.0/l2-gateways/a_b.json", "/v2.0/l2-gateways/a_b"),
            (
                "/v2.0/l2_remote_gateway_connections/x_y/remote_macs",
                "/v2.0/l2-remote-gateway-connections/x_y/remote-macs",
            ),
            ("", "/"),
        ] {
            assert_eq!(one_spelling(given), path);
        }
    }
}
