//! Names to ids, as neutronclient does it: the service knows ids only.

use model::resource::Resource;
use uuid::Uuid;

use crate::client::{Client, Parameter};
use crate::error::Error;

impl Client {
    /// The id of the one resource that `key` means: its id, or its name where no resource has that id.
    ///
    /// # Errors
    /// No resource or several have that name; or the service cannot be reached or refuses.
    pub async fn find(&self, resource: &'static Resource, key: &str) -> Result<String, Error> {
        let is_id = Uuid::try_parse(key).is_ok();
        if is_id && let Some(id) = self.ids(resource, &[("id", key)]).await?.pop() {
            return Ok(id);
        }
        let mut ids = if resource.named {
            self.ids(resource, &[("name", key)]).await?
        } else {
            Vec::new()
        };
        match (ids.pop(), ids.is_empty()) {
            (Some(id), true) => Ok(id),
            (Some(_), false) => Err(Error::Ambiguous {
                resource,
                key: key.to_owned(),
            }),
            (None, _) => Err(Error::NotFound {
                resource,
                key: key.to_owned(),
            }),
        }
    }

    /// The ids of the resources whose attributes have these values.
    ///
    /// # Errors
    /// The service cannot be reached or refuses.
    pub async fn ids(
        &self,
        resource: &Resource,
        filters: &[(&str, &str)],
    ) -> Result<Vec<String>, Error> {
        let mut ids = Vec::new();
        let query: Vec<Parameter> = filters
            .iter()
            .chain([&("fields", "id")])
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.list(&[resource.path], &query, |record| {
            let id = record.get("id").and_then(|id| id.as_str());
            let id = id.ok_or_else(|| self.garbled("a resource without id"))?;
            ids.push(id.to_owned());
            Ok::<_, Error>(())
        })
        .await?;
        Ok(ids)
    }
}
