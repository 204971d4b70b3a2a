//! Versioned objects with attributes, tags and soft deletion: what keys and secrets are both.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::super::calendar::unix;
use super::{Call, Refused};

/// How long a deleted object can be recovered, in days: the service's default.
const RECOVERABLE_DAYS: u64 = 90;

/// What is particular to keys, or to secrets.
pub(super) trait Content {
    /// `keys` or `secrets`.
    const COLLECTION: &'static str;
    /// What messages call one.
    const NOUN: &'static str;
    /// The code for one that is not there.
    const NOT_FOUND: &'static str;

    /// Adds the content to what is shown of a version.
    fn show(&self, id: &str, shown: &mut Value);

    /// Adds what a list may show of it.
    fn show_listed(&self, id: &str, shown: &mut Value);

    /// Takes changes that are not attributes or tags.
    fn update(&mut self, changes: &Value);
}

/// All keys, or all secrets, of a vault.
pub(super) struct Objects<C> {
    url: String,
    /// By name in lower case, as names are compared.
    objects: BTreeMap<String, Object<C>>,
}

pub(super) struct Object<C> {
    name: String,
    /// In the order in which they were made.
    versions: Vec<Version<C>>,
    deleted: Option<SystemTime>,
    /// Deletion and recovery take a while: the first look afterwards still finds nothing in the new place.
    settling: Cell<bool>,
}

pub(super) struct Version<C> {
    pub(super) id: String,
    pub(super) content: C,
    pub(super) enabled: bool,
    not_before: Option<u64>,
    expires: Option<u64>,
    created: SystemTime,
    updated: SystemTime,
    tags: Value,
}

impl<C: Content> Objects<C> {
    pub(super) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), objects: BTreeMap::new() }
    }

    /// Adds a version with the attributes and tags of the call, and makes it the newest.
    pub(super) fn add(&mut self, call: &Call, name: &str, content: C) -> Result<Value, Refused> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || name.len() > 127 || !name.chars().all(plain) {
            return Err(Refused::bad(format!("The request URI contains an invalid name: {name}")));
        }
        let object = self.objects.entry(name.to_lowercase()).or_insert_with(|| Object {
            name: name.to_owned(),
            versions: Vec::new(),
            deleted: None,
            settling: Cell::new(false),
        });
        if object.deleted.is_some() {
            let noun = C::NOUN;
            let message = format!(
                "{noun} {name} is currently in a deleted but recoverable state, and its name cannot be reused; \
                 in this state, the {noun} can only be recovered or purged."
            );
            return Err(Refused::new(409, "Conflict", message).because("ObjectIsDeletedButRecoverable"));
        }
        let mut version = Version {
            id: data_encoding::HEXLOWER.encode(&crate::random::<16>()),
            content,
            enabled: true,
            not_before: None,
            expires: None,
            created: call.now,
            updated: call.now,
            tags: Value::Null,
        };
        version.set(call);
        let shown = version.show(&self.url, &object.name);
        object.versions.push(version);
        Ok(shown)
    }

    /// The named version, or the newest.
    pub(super) fn version(&self, name: &str, version: Option<&str>) -> Result<&Version<C>, Refused> {
        let object = self.live(name)?;
        match version {
            None => object.versions.last(),
            Some(id) => object.versions.iter().find(|v| v.id == id),
        }
        .ok_or_else(|| not_found::<C>(name, version))
    }

    pub(super) fn show(&self, name: &str, version: &Version<C>) -> Value {
        let written = self.objects.get(&name.to_lowercase()).map_or(name, |object| &object.name);
        version.show(&self.url, written)
    }

    /// Every name, with its newest version.
    pub(super) fn list(&self, call: &Call) -> Result<Value, Refused> {
        let live = self.objects.values().filter(|object| object.deleted.is_none());
        let items = live.filter_map(|o| Some(o.versions.last()?.list(&self.url, &o.name, false))).collect();
        call.page(&format!("{}/{}", self.url, C::COLLECTION), items)
    }

    /// Every version of a name, in the order of their ids, as the service lists them.
    pub(super) fn list_versions(&self, call: &Call, name: &str) -> Result<Value, Refused> {
        let object = self.live(name)?;
        let mut versions: Vec<_> = object.versions.iter().collect();
        versions.sort_by(|a, b| a.id.cmp(&b.id));
        let items = versions.iter().map(|v| v.list(&self.url, &object.name, true)).collect();
        call.page(&format!("{}/{}/{name}/versions", self.url, C::COLLECTION), items)
    }

    /// Changes attributes and tags of a version, or of the newest.
    pub(super) fn update(
        &mut self,
        call: &Call,
        name: &str,
        version: Option<&str>,
    ) -> Result<Value, Refused> {
        let id = self.version(name, version)?.id.clone();
        let Self { url, objects } = self;
        let object = objects.get_mut(&name.to_lowercase()).ok_or_else(|| not_found::<C>(name, version))?;
        let found = object.versions.iter_mut().find(|v| v.id == id);
        let found = found.ok_or_else(|| not_found::<C>(name, version))?;
        found.set(call);
        found.updated = call.now;
        let mut shown = found.show(url, &object.name);
        // The answer to a change of a secret carries no value.
        shown.as_object_mut().map(|members| members.remove("value"));
        Ok(shown)
    }

    pub(super) fn delete(&mut self, call: &Call, name: &str) -> Result<Value, Refused> {
        self.live(name)?;
        if let Some(object) = self.objects.get_mut(&name.to_lowercase()) {
            object.deleted = Some(call.now);
            object.settling.set(true);
        }
        self.show_deleted(name)
    }

    /// What is below `deletedkeys` or `deletedsecrets`.
    pub(super) fn deleted(&mut self, call: &Call, rest: &[&str]) -> Result<Value, Refused> {
        let forgotten = |object: &Object<C>| object.deleted.is_some_and(|at| call.now >= purged_at(at));
        self.objects.retain(|_, object| !forgotten(object));
        match (call.method, rest) {
            ("GET", []) => {
                let items = self.objects.values().filter_map(|o| self.list_deleted(o)).collect();
                call.page(&format!("{}/deleted{}", self.url, C::COLLECTION), items)
            }
            ("GET", [name]) => {
                let shown = self.show_deleted(name)?;
                if self.is_settling(name) { Err(not_found::<C>(name, None)) } else { Ok(shown) }
            }
            ("DELETE", [name]) => {
                self.show_deleted(name)?;
                self.refuse_while_settling(name)?;
                self.objects.remove(&name.to_lowercase());
                Ok(Value::Null)
            }
            ("POST", [name, "recover"]) => {
                self.show_deleted(name)?;
                self.refuse_while_settling(name)?;
                let object = self.objects.get_mut(&name.to_lowercase());
                object.map(|object| object.deleted.take());
                let newest = self.version(name, None)?;
                let mut shown = self.show(name, newest);
                shown.as_object_mut().map(|members| members.remove("value"));
                self.objects
                    .get(&name.to_lowercase())
                    .into_iter()
                    .for_each(|object| object.settling.set(true));
                Ok(shown)
            }
            _ => call.not_allowed(),
        }
    }

    fn show_deleted(&self, name: &str) -> Result<Value, Refused> {
        let object = self.objects.get(&name.to_lowercase());
        let deleted = object.and_then(|o| Some((o, o.deleted?, o.versions.last()?)));
        let (object, at, newest) = deleted.ok_or_else(|| not_found::<C>(name, None))?;
        let mut shown = newest.show(&self.url, &object.name);
        shown.as_object_mut().map(|members| members.remove("value"));
        self.add_dates(object, at, &mut shown);
        Ok(shown)
    }

    fn list_deleted(&self, object: &Object<C>) -> Option<Value> {
        let mut shown = object.versions.last()?.list(&self.url, &object.name, false);
        self.add_dates(object, object.deleted?, &mut shown);
        Some(shown)
    }

    fn add_dates(&self, object: &Object<C>, deleted: SystemTime, shown: &mut Value) {
        shown["recoveryId"] = format!("{}/deleted{}/{}", self.url, C::COLLECTION, object.name).into();
        shown["deletedDate"] = unix(deleted).into();
        shown["scheduledPurgeDate"] = unix(purged_at(deleted)).into();
    }

    fn live(&self, name: &str) -> Result<&Object<C>, Refused> {
        let object = self.objects.get(&name.to_lowercase());
        let object = object.filter(|object| object.deleted.is_none() && !object.settling.take());
        object.ok_or_else(|| not_found::<C>(name, None))
    }

    /// Whether a deletion was still under way; it is done now.
    fn is_settling(&self, name: &str) -> bool {
        self.objects.get(&name.to_lowercase()).is_some_and(|object| object.settling.take())
    }

    fn refuse_while_settling(&self, name: &str) -> Result<(), Refused> {
        if !self.is_settling(name) {
            return Ok(());
        }
        let noun = C::NOUN;
        let message = format!("{noun} {name} is currently being deleted.");
        Err(Refused::new(409, "Conflict", message).because("ObjectIsBeingDeleted"))
    }
}

impl<C: Content> Version<C> {
    /// Takes attributes and tags from a request; absent ones stay.
    fn set(&mut self, call: &Call) {
        let attributes = &call.body["attributes"];
        self.enabled = attributes["enabled"].as_bool().unwrap_or(self.enabled);
        self.not_before = attributes["nbf"].as_u64().or(self.not_before);
        self.expires = attributes["exp"].as_u64().or(self.expires);
        if call.body["tags"].is_object() {
            self.tags = call.body["tags"].clone();
        }
        self.content.update(call.body);
    }

    fn show(&self, url: &str, name: &str) -> Value {
        let mut shown = self.outline();
        self.content.show(&format!("{url}/{}/{name}/{}", C::COLLECTION, self.id), &mut shown);
        shown
    }

    fn list(&self, url: &str, name: &str, with_version: bool) -> Value {
        let mut shown = self.outline();
        let version = if with_version { format!("/{}", self.id) } else { String::new() };
        self.content.show_listed(&format!("{url}/{}/{name}{version}", C::COLLECTION), &mut shown);
        shown
    }

    fn outline(&self) -> Value {
        let mut attributes = json!({
            "enabled": self.enabled,
            "created": unix(self.created),
            "updated": unix(self.updated),
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": RECOVERABLE_DAYS,
        });
        for (name, value) in [("nbf", self.not_before), ("exp", self.expires)] {
            if let Some(value) = value {
                attributes[name] = value.into();
            }
        }
        let mut shown = json!({ "attributes": attributes });
        if self.tags.is_object() {
            shown["tags"] = self.tags.clone();
        }
        shown
    }
}

fn purged_at(deleted: SystemTime) -> SystemTime {
    deleted + Duration::from_secs(RECOVERABLE_DAYS * 24 * 3600)
}

fn not_found<C: Content>(name: &str, version: Option<&str>) -> Refused {
    let version = version.map_or(String::new(), |version| format!("/{version}"));
    let message = format!("A {} with (name/id) {name}{version} was not found in this key vault.", C::NOUN);
    Refused::new(404, C::NOT_FOUND, message)
}
