//! Buckets of keys and values: what a workload may do with which, checked by what its manifest declares, and done by the
//! store. The same for Wasm guests (`wasi:keyvalue`), for whoever comes over the mesh, and for operators.

mod http_binding;
pub mod wire;
#[cfg(test)]
mod wire_law;

use std::sync::Arc;

use model::{
    AppName, ByteSize, Error, Limits, Name, Namespace, code,
    keyvalue::{Access, Bucket, BucketTotals, Change, MAX_PAGE, MAX_TOGETHER, check_key},
};
use runtime::{
    Presence,
    keyvalue::{Answer, Ask},
};
use store::{Store, kv::Kv};

use crate::{
    apps::Apps,
    dispatch::Buffers,
    versions::{Known, Versions},
};

/// Buckets. Cheap to clone.
#[derive(Clone)]
pub struct KeyValue {
    kv: Kv,
    apps: Arc<Apps>,
    versions: Versions,
    buffers: Buffers,
    limits: Limits,
}

/// On whose behalf a bucket is used.
pub(crate) enum User<'a> {
    /// A running instance, as far as its manifest says.
    Workload(&'a Presence),
    /// An operator, in this app.
    Operator(&'a AppName),
}

impl KeyValue {
    pub(crate) fn new(
        store: &Store,
        apps: &Arc<Apps>,
        versions: &Versions,
        buffers: Buffers,
        limits: Limits,
    ) -> Self {
        Self {
            kv: store.kv(),
            apps: Arc::clone(apps),
            versions: versions.clone(),
            buffers,
            limits,
        }
    }

    /// What an instance asks of the bucket `name` of its app.
    ///
    /// # Errors
    /// `KV_NOT_DECLARED` with what to add to the manifest, `KV_BAD_KEY`, `KV_CONDITION`, `KV_NOT_A_NUMBER`, `KV_FULL`,
    /// `STORE_TOO_LARGE`, and those of the store.
    pub async fn ask(&self, presence: &Presence, name: &str, ask: Ask) -> Result<Answer, Error> {
        let access = match ask {
            Ask::Write(_) | Ask::Increment(..) => Access::Write,
            Ask::Open | Ask::Get(_) | Ask::Look(_) | Ask::List(_) => Access::Read,
        };
        let bucket = self.bucket(&User::Workload(presence), name, access).await?;
        match ask {
            Ask::Open => Ok(Answer::Done),
            Ask::Get(keys) => {
                check_all(keys.iter())?;
                Ok(Answer::Entries(self.kv.get(&bucket, keys).await?))
            }
            Ask::Look(key) => {
                check_key(&key)?;
                let known = self.kv.look(&bucket, key).await?;
                Ok(Answer::Known(known.map(|listed| listed.revision)))
            }
            Ask::Write(changes) => {
                self.write(&bucket, changes).await?;
                Ok(Answer::Done)
            }
            Ask::Increment(key, by, numbers) => {
                check_key(&key)?;
                let (sum, _) = self.kv.increment(&bucket, key, by, numbers).await?;
                Ok(Answer::Number(sum))
            }
            Ask::List(after) => {
                let keys = self.kv.list(&bucket, String::new(), after, MAX_PAGE);
                Ok(Answer::Keys(keys.await?))
            }
        }
    }

    /// The buckets of `app`, or of all apps: those that a workload of a live revision declares, and those that were ever
    /// written.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn buckets(&self, app: Option<AppName>) -> Result<Vec<BucketTotals>, Error> {
        let namespace = Namespace::default_namespace();
        let mut all = self.kv.buckets(&namespace, app.clone()).await?;
        let live = self.apps.live();
        let asked = live.apps.iter();
        let asked = asked.filter(|live| app.as_ref().is_none_or(|app| *app == live.name));
        for live in asked {
            let declared = live.app.workloads.values();
            for name in declared.flat_map(|workload| workload.buckets.keys()) {
                let known = |one: &BucketTotals| one.app == live.name && one.bucket == *name;
                if !all.iter().any(known) {
                    all.push(BucketTotals {
                        app: live.name.clone(),
                        bucket: name.clone(),
                        keys: 0,
                        bytes: ByteSize(0),
                    });
                }
            }
        }
        all.sort_by(|a, b| (&a.app, &a.bucket).cmp(&(&b.app, &b.bucket)));
        Ok(all)
    }

    async fn write(
        &self,
        bucket: &Bucket,
        changes: Vec<Change>,
    ) -> Result<Vec<store::kv::Written>, Error> {
        check_all(changes.iter().map(|change| &change.key))?;
        let values = changes.iter().filter_map(|change| change.value.as_ref());
        let bytes: u64 = values.map(|value| value.len() as u64).sum();
        let most = self.limits.keyvalue_value;
        if bytes > most.0 {
            let message = format!("values of {bytes} bytes; at most {most} are written together");
            return Err(Error::new(code::STORE_TOO_LARGE, message));
        }
        Ok(self.kv.write(bucket, changes).await?)
    }

    /// The bucket `name`, if `user` may do that with it.
    async fn bucket(&self, user: &User<'_>, name: &str, access: Access) -> Result<Bucket, Error> {
        match user {
            User::Workload(presence) => {
                let known = self.versions.get(presence.version)?;
                Ok(Bucket {
                    namespace: presence.namespace.clone(),
                    app: presence.app.clone(),
                    name: known.may_use(name, access)?,
                })
            }
            User::Operator(app) => self.of_operator(app, name).await,
        }
    }

    /// Operators may do everything with what is there: what a workload of the live revision declares, and what holds
    /// data of an earlier one.
    async fn of_operator(&self, app: &AppName, name: &str) -> Result<Bucket, Error> {
        let missing = || {
            let message = format!(
                "`{app}` has no bucket `{name}`: no workload lists `{{kv: {name}}}` in its `state`"
            );
            Error::new(code::KV_NOT_DECLARED, message)
        };
        let name = Name::new(name).map_err(|_| missing())?;
        let bucket = Bucket {
            namespace: Namespace::default_namespace(),
            app: app.clone(),
            name: name.clone(),
        };
        let known = self.buckets(Some(app.clone())).await?;
        if known.iter().any(|known| known.bucket == name) {
            return Ok(bucket);
        }
        self.apps.find(app.as_str())?;
        Err(missing())
    }
}

fn check_all<'a>(mut keys: impl ExactSizeIterator<Item = &'a String>) -> Result<(), Error> {
    let many = keys.len();
    if many > MAX_TOGETHER {
        let message =
            format!("{many} keys at once; at most {MAX_TOGETHER} are read or written together");
        return Err(Error::new(code::KV_BAD_KEY, message));
    }
    keys.try_for_each(|key| check_key(key))
}

impl Known {
    /// The bucket `name`, if it declared that it uses it so.
    ///
    /// # Errors
    /// `KV_NOT_DECLARED`, with what to add to the manifest.
    pub fn may_use(&self, name: &str, access: Access) -> Result<Name, Error> {
        let declared = self.workload.buckets.get_key_value(name);
        let why = match declared {
            Some((name, Access::Write)) => return Ok(name.clone()),
            Some((name, Access::Read)) if access == Access::Read => return Ok(name.clone()),
            Some(_) => format!(
                "may only read the bucket `{name}`: list it without `access: read` in its `state:`"
            ),
            None => format!(
                "does not declare that it uses the bucket `{name}`: add `{{kv: {name}}}` to its `state:`"
            ),
        };
        let message = format!("`{}/{}` {why}", self.app, self.workload.name);
        Err(Error::new(code::KV_NOT_DECLARED, message))
    }
}
