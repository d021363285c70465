//! What each verb does: look names up, ask the server, print its answer.

use clap::ArgMatches;
use model::resource::{Attribute, Resource, Shape};
use openstack::page::Record;
use openstack::{Client, Error};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::console::Console;
use crate::failure::Failure;
use crate::look::Look;
use crate::output::{self, Columns, Format, Of, Options, Order};
use crate::tree::{self, Invocation, Verb};
use crate::{argument, bulk, connection};

/// Runs the client command that clap found in a command line of [`tree::command`], and returns the exit code: 0 when it
/// is done, 1 when the server refuses or cannot be reached, 2 when it was typed wrongly.
pub async fn run(matches: &ArgMatches, console: &mut Console<'_>) -> u8 {
    let outcome = match (Invocation::find(matches), Look::find(matches)) {
        (Some(invocation), _) => command(matches, invocation, console).await,
        (None, Some(look)) => look.run(matches, console).await,
        (None, None) => Err(Failure::Usage("there is no such command".to_owned())),
    };
    let flushed = console.out.flush().map_err(Failure::from);
    let Err(failure) = outcome.and(flushed) else {
        return 0;
    };
    let code = failure.exit_code();
    if code != 0 {
        // When nobody can be told, the exit code still tells.
        let _ = writeln!(console.err, "{}", failure.report());
    }
    code
}

async fn command(
    before: &ArgMatches,
    invocation: Invocation<'_>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let Invocation {
        resource,
        verb,
        matches,
    } = invocation;
    let mut command = Typed {
        client: connection::client(before, matches).await?,
        resource,
        matches,
        console,
    };
    match verb {
        Verb::Create => match bulk::Request::read(resource, matches)? {
            Some(request) => command.create_from_file(&request).await,
            None => command.create().await,
        },
        Verb::List => command.list().await,
        Verb::Show => command.show().await,
        Verb::Update => command.update().await,
        Verb::Delete => command.delete().await,
    }
}

/// A command being run.
struct Typed<'a, 'c> {
    client: Client,
    resource: &'static Resource,
    matches: &'a ArgMatches,
    console: &'a mut Console<'c>,
}

impl<'a> Typed<'a, '_> {
    async fn create(&mut self) -> Result<(), Failure> {
        let options = Options::read(self.matches);
        // Before the request: a mistyped column must not leave a resource behind.
        let columns = Columns::choose(self.resource, Of::One, &options)?;
        let object = self.object(argument::created(self.resource)).await?;
        let body = json!({ self.resource.member: object }).to_string();
        let answer = self.client.post(&[self.resource.path], body).await?;
        let record = self.client.member(&answer)?;
        if options.format == Format::Table {
            writeln!(self.console.out, "Created a new {}:", self.resource.member)?;
        }
        self.print(&columns, &options, record)
    }

    async fn create_from_file(&mut self, request: &bulk::Request) -> Result<(), Failure> {
        let options = Options::read(self.matches);
        let columns = Columns::choose(self.resource, Of::Many, &options)?;
        let stations = request.open(self.console)?;
        let path = self.nested_path(&request.parent).await?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let body = request.body(self.resource, &stations);
        let bar = bulk::progress(body.len(), self.console.watched);
        let shown = bar.clone();
        let answer = self
            .client
            .upload(&path, body, move |sent| shown.set_position(sent as u64))
            .await;
        bar.finish_and_clear();
        let answer = answer.map_err(|error| stations.explain(request.name(), error))?;
        if options.format_given {
            let out = &mut *self.console.out;
            let mut listing = output::listing(&columns, None, &options, self.console.width, out)?;
            self.client.read_page(&answer, &mut |record| {
                listing.record(record).map_err(Failure::from)
            })?;
            return Ok(listing.finish()?);
        }
        let mut created = 0_usize;
        self.client.read_page(&answer, &mut |_| {
            created += 1;
            Ok::<_, Failure>(())
        })?;
        let (collection, file) = (self.resource.collection, request.name());
        Ok(writeln!(
            self.console.out,
            "Created {created} {collection} from {file}."
        )?)
    }

    async fn list(&mut self) -> Result<(), Failure> {
        let options = Options::read(self.matches);
        let columns = Columns::choose(self.resource, Of::Many, &options)?;
        let order = Order::choose(self.resource, &options)?;
        let mut query = self.filters().await?;
        let wanted = |name: &'static str| ("fields".to_owned(), name.to_owned());
        // Of a long list only what is shown is transferred.
        query.extend(columns.fields().map(wanted));
        if let Some(order) = &order {
            let further = order.fields().map(wanted);
            let further: Vec<_> = further.filter(|field| !query.contains(field)).collect();
            query.extend(further);
        }
        let follow = self.page(&mut query)?;
        let path = [self.resource.path];
        let out = &mut *self.console.out;
        let mut listing = output::listing(&columns, order, &options, self.console.width, out)?;
        let mut each = |record| listing.record(record).map_err(Failure::from);
        if follow {
            self.client.list(&path, &query, each).await?;
        } else {
            let answer = self.client.get(&path, &query).await?;
            self.client.read_page(&answer, &mut each)?;
        }
        Ok(listing.finish()?)
    }

    async fn show(&mut self) -> Result<(), Failure> {
        let options = Options::read(self.matches);
        let columns = Columns::choose(self.resource, Of::One, &options)?;
        let key = self.target().unwrap_or_default();
        let id = self.id(self.resource, key).await?;
        let answer = match self.client.get(&[self.resource.path, &id], &[]).await {
            Err(error) if error.is_not_found() => {
                return Err(self.hinted(self.resource, error, key).await);
            }
            answer => answer?,
        };
        let record = self.client.member(&answer)?;
        self.print(&columns, &options, record)
    }

    async fn update(&mut self) -> Result<(), Failure> {
        let member = self.resource.member;
        let object = self.object(argument::updated(self.resource)).await?;
        if object.is_empty() {
            let message = format!("Must specify new values to update {member}");
            return Err(Failure::Refused(message));
        }
        let key = self.target().unwrap_or_default();
        let id = self.id(self.resource, key).await?;
        let body = json!({ member: object }).to_string();
        self.client.put(&[self.resource.path, &id], body).await?;
        Ok(writeln!(self.console.out, "Updated {member}: {key}")?)
    }

    /// Deletes one after the other. What is not there does not keep the others from being deleted; any other failure
    /// does, but what was deleted until then is told.
    async fn delete(&mut self) -> Result<(), Failure> {
        let keys = self.matches.get_many::<String>(tree::TARGET);
        let (mut deleted, mut missing, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
        for key in keys.into_iter().flatten() {
            match self.delete_one(key).await {
                Ok(()) => deleted.push(key.as_str()),
                Err(error) if error.is_not_found() => missing.push(key.as_str()),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let member = self.resource.member;
        if !deleted.is_empty() {
            let deleted = deleted.join(", ");
            writeln!(self.console.out, "Deleted {member}(s): {deleted}")?;
        }
        outcome?;
        if missing.is_empty() {
            return Ok(());
        }
        let mut message = format!(
            "Unable to find {member}(s) with id(s) '{}'.",
            missing.join(", ")
        );
        for key in missing {
            if let Some(hint) = self.hint(self.resource, key).await {
                message = format!("{message}\n{hint}");
            }
        }
        Err(Failure::Refused(message))
    }

    async fn delete_one(&self, key: &str) -> Result<(), Error> {
        let id = if self.resource.named {
            self.client.find(self.resource, key).await?
        } else {
            id(self.resource, key)?
        };
        self.client.delete(&[self.resource.path, &id]).await
    }

    fn target(&self) -> Option<&'a str> {
        let target = self.matches.get_one::<String>(tree::TARGET);
        target.map(String::as_str)
    }

    fn print(
        &mut self,
        columns: &Columns,
        options: &Options,
        record: Record,
    ) -> Result<(), Failure> {
        let (width, out) = (self.console.width, &mut *self.console.out);
        Ok(output::show(columns, options, record, width, out)?)
    }

    /// The options that filter, as a query. Names are looked up where ids are meant.
    async fn filters(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut query = Vec::new();
        for attribute in argument::filtering(self.resource) {
            let values = self.matches.get_many::<Value>(attribute.name);
            for value in values.into_iter().flatten() {
                let mut value = value.clone();
                self.resolve(attribute, &mut value).await?;
                let text = match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                query.push((attribute.name.to_owned(), text));
            }
        }
        Ok(query)
    }

    /// Adds limit, marker and order to a query; whether further pages are to be fetched.
    fn page(&self, query: &mut Vec<(String, String)>) -> Result<bool, Failure> {
        let mut add = |key: &str, value: String| query.push((key.to_owned(), value));
        let limit = self.matches.get_one::<u32>(tree::LIMIT);
        let page_size = self.matches.get_one::<u32>(tree::PAGE_SIZE);
        if let Some(number) = limit.or(page_size) {
            add("limit", number.to_string());
        }
        if let Some(marker) = self.matches.get_one::<String>(tree::MARKER) {
            add("marker", marker.clone());
        }
        let keys = self.matches.get_many::<String>(tree::SORT_KEY);
        let mut directions = self
            .matches
            .get_many::<String>(tree::SORT_DIR)
            .unwrap_or_default();
        for key in keys.into_iter().flatten() {
            let direction = directions.next().map_or("asc", String::as_str);
            add(
                "sort_key",
                output::named(self.resource, key)?.name.to_owned(),
            );
            add("sort_dir", direction.to_owned());
        }
        if directions.next().is_some() {
            let message = "there are more --sort-dir than --sort-key";
            return Err(Failure::Usage(message.to_owned()));
        }
        Ok(limit.is_none())
    }

    /// The body's object: a key for each of these attributes that was typed, ids in the place of names.
    async fn object(
        &self,
        attributes: impl Iterator<Item = &'static Attribute>,
    ) -> Result<Record, Failure> {
        let attributes: Vec<_> = attributes.collect();
        let typed = attributes.iter().copied();
        let mut object = argument::object(self.resource, typed, self.matches);
        // In the table's order, which is the order of the arguments.
        for attribute in attributes {
            if let Some(value) = object.get_mut(attribute.name) {
                self.resolve(attribute, value).await?;
            }
        }
        Ok(object)
    }

    /// Puts the id where a name may have been typed.
    async fn resolve(&self, attribute: &Attribute, value: &mut Value) -> Result<(), Failure> {
        let Shape::Reference(target, _) = attribute.shape else {
            return Ok(());
        };
        if let Some(key) = value.as_str() {
            *value = self.id(Resource::of(target), key).await?.into();
        }
        Ok(())
    }

    /// The id of what is typed as `key`: looked up where names are allowed, otherwise the UUID itself.
    async fn id(&self, resource: &'static Resource, key: &str) -> Result<String, Failure> {
        if resource.named {
            return Ok(self.client.find(resource, key).await?);
        }
        match id(resource, key) {
            Ok(id) => Ok(id),
            Err(error) => Err(self.hinted(resource, error, key).await),
        }
    }

    async fn nested_path(&self, parent: &str) -> Result<Vec<String>, Failure> {
        let nested = self.resource.nested.as_ref();
        let attribute = nested.and_then(|nested| self.resource.attribute(nested.attribute));
        let (Some(nested), Some(Shape::Reference(kind, _))) = (nested, attribute.map(|a| a.shape))
        else {
            return Ok(vec![self.resource.path.to_owned()]);
        };
        let target = Resource::of(kind);
        let id = self.id(target, parent).await?;
        Ok(vec![target.path.to_owned(), id, nested.segment.to_owned()])
    }

    /// An error about what is typed as `key`, with a hint where one helps.
    async fn hinted(&self, resource: &'static Resource, error: Error, key: &str) -> Failure {
        match self.hint(resource, key).await {
            Some(hint) => Failure::Refused(format!("{error}\n{hint}")),
            None => error.into(),
        }
    }

    /// What a person may have meant who gave the name of a remote gateway where the UUID of its connection is asked for.
    async fn hint(&self, resource: &'static Resource, key: &str) -> Option<String> {
        if resource.named {
            return None;
        }
        for attribute in resource.attributes.iter().filter(|a| a.visible) {
            let Shape::Reference(kind, _) = attribute.shape else {
                continue;
            };
            let target = Resource::of(kind);
            let Ok(id) = self.client.find(target, key).await else {
                continue;
            };
            let ids = self.client.ids(resource, &[(attribute.name, &id)]).await;
            let ids = ids.unwrap_or_default().join(", ");
            let ids = if ids.is_empty() { "none" } else { &ids };
            return Some(format!(
                "'{key}' is a {}; what is asked for is the UUID of a {noun}. Its {noun}s: {ids}",
                target.noun,
                noun = resource.noun
            ));
        }
        None
    }
}

/// A UUID as the id of a resource that has no name.
fn id(resource: &'static Resource, key: &str) -> Result<String, Error> {
    match Uuid::try_parse(key) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(Error::NotFound {
            resource,
            key: key.to_owned(),
        }),
    }
}
