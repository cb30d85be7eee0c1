//! `wasi:keyvalue` (`store`, `atomics`, `batch`), in the two drafts that toolchains of today import: `0.2.0-draft`, and
//! `0.2.0-draft2` with compare-and-swap, signed counters and cursors that are texts.
//!
//! Defined by hand and not from WIT, so that both drafts share every function that did not change. Nothing is kept in
//! the host but names and revisions: a value is read when it is asked for, and written through before the guest goes on.

use std::sync::Arc;

use bytes::Bytes;
use model::{
    Error, code,
    keyvalue::{After, Change, Condition, DEFAULT_BUCKET, Listed, MAX_PAGE, Numbers, Revision},
};
use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType},
};

use super::{guest::Guest, preview3::attribute};
use crate::keyvalue::{Answer, Ask};

/// An open bucket of the workload's app.
pub(super) struct Bucket {
    name: Arc<str>,
}

/// What a guest saw under a key, to swap it if it is still that.
pub(super) struct Cas {
    bucket: Arc<str>,
    key: String,
    seen: Option<Revision>,
}

/// The interface's `error`.
#[derive(Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum StoreError {
    /// There is no such bucket. Never said: what is not declared is denied, whether it is there or not.
    #[component(name = "no-such-store")]
    NoSuchStore,
    /// The manifest does not declare that it is used so.
    #[component(name = "access-denied")]
    AccessDenied,
    /// Anything else, in words.
    #[component(name = "other")]
    Other(String),
}

/// Why a swap did not happen.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum CasError {
    /// For a reason of the store.
    #[component(name = "store-error")]
    StoreError(StoreError),
    /// Because something else is there now; the handle knows it.
    #[component(name = "cas-failed")]
    CasFailed(Resource<Cas>),
}

/// A page of keys, and where the next one begins.
#[derive(ComponentType, Lower)]
#[component(record)]
struct KeyResponse<C> {
    keys: Vec<String>,
    cursor: Option<C>,
}

type Ctx<'a> = StoreContextMut<'a, Guest>;
type Said<T> = Result<T, StoreError>;
type Held = Resource<Bucket>;
/// A pair as `set-many` has it.
type Pair = (String, Vec<u8>);

/// Offers the interfaces to guests.
pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for draft in ["0.2.0-draft", "0.2.0-draft2"] {
        let mut store = linker.instance(&format!("wasi:keyvalue/store@{draft}"))?;
        add_store(&mut store)?;
        match draft {
            "0.2.0-draft" => add_list::<u64>(&mut store)?,
            _ => add_list::<String>(&mut store)?,
        }
        add_batch(&mut linker.instance(&format!("wasi:keyvalue/batch@{draft}"))?)?;
    }
    add_first_draft(linker)?;
    add_second_draft(linker)
}

fn add_store(store: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    store.resource("bucket", ResourceType::host::<Bucket>(), |mut ctx, rep| {
        ctx.data_mut().table.delete(Held::new_own(rep))?;
        Ok(())
    })?;
    store.func_wrap_async("open", |mut ctx: Ctx<'_>, (name,): (String,)| {
        Box::new(async move { Ok((open(&mut ctx, name).await?,)) })
    })?;
    store.func_wrap_async(
        "[method]bucket.get",
        |mut ctx: Ctx<'_>, (bucket, key): (Held, String)| {
            Box::new(async move {
                let said = get(&mut ctx, &bucket, vec![key]).await?;
                Ok((said.map(|mut values| values.pop().flatten()),))
            })
        },
    )?;
    store.func_wrap_async(
        "[method]bucket.set",
        |mut ctx: Ctx<'_>, (bucket, key, value): (Held, String, Vec<u8>)| {
            Box::new(async move {
                let change = change(key, Some(value));
                Ok((write(&mut ctx, &bucket, vec![change]).await?,))
            })
        },
    )?;
    store.func_wrap_async(
        "[method]bucket.delete",
        |mut ctx: Ctx<'_>, (bucket, key): (Held, String)| {
            Box::new(async move { Ok((write(&mut ctx, &bucket, vec![change(key, None)]).await?,)) })
        },
    )?;
    store.func_wrap_async(
        "[method]bucket.exists",
        |mut ctx: Ctx<'_>, (bucket, key): (Held, String)| {
            Box::new(async move {
                let name = name(&ctx, &bucket)?;
                let said = ask(&mut ctx, &name, Ask::Look(key)).await;
                Ok((said.map(|answer| matches!(answer, Answer::Known(Some(_)))),))
            })
        },
    )
}

/// A cursor as a draft has it.
trait Cursor: ComponentType + Lift + Lower + Send + Sync + 'static {
    fn start() -> After;
    fn after(self) -> After;
    fn of(last: &Listed) -> Self;
}

impl Cursor for u64 {
    fn start() -> After {
        After::Number(0)
    }

    fn after(self) -> After {
        After::Number(self)
    }

    fn of(last: &Listed) -> Self {
        last.number
    }
}

impl Cursor for String {
    fn start() -> After {
        After::Start
    }

    fn after(self) -> After {
        After::Key(self)
    }

    fn of(last: &Listed) -> Self {
        last.key.clone()
    }
}

fn add_list<C: Cursor>(store: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    store.func_wrap_async(
        "[method]bucket.list-keys",
        |mut ctx: Ctx<'_>, (bucket, cursor): (Held, Option<C>)| {
            Box::new(async move { Ok((list(&mut ctx, &bucket, cursor).await?,)) })
        },
    )
}

fn add_batch(batch: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    batch.func_wrap_async(
        "set-many",
        |mut ctx: Ctx<'_>, (bucket, pairs): (Held, Vec<Pair>)| {
            Box::new(async move {
                let pairs = pairs.into_iter();
                let changes = pairs.map(|(key, value)| change(key, Some(value)));
                Ok((write(&mut ctx, &bucket, changes.collect()).await?,))
            })
        },
    )?;
    batch.func_wrap_async(
        "delete-many",
        |mut ctx: Ctx<'_>, (bucket, keys): (Held, Vec<String>)| {
            Box::new(async move {
                let changes = keys.into_iter().map(|key| change(key, None));
                Ok((write(&mut ctx, &bucket, changes.collect()).await?,))
            })
        },
    )
}

fn add_first_draft(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut batch = linker.instance("wasi:keyvalue/batch@0.2.0-draft")?;
    batch.func_wrap_async(
        "get-many",
        |mut ctx: Ctx<'_>, (bucket, keys): (Held, Vec<String>)| {
            Box::new(async move {
                let said = get(&mut ctx, &bucket, keys.clone()).await?;
                let pairs = |values: Vec<Option<Vec<u8>>>| -> Vec<Option<Pair>> {
                    let pairs = keys.into_iter().zip(values);
                    pairs.map(|(key, value)| Some((key, value?))).collect()
                };
                Ok((said.map(pairs),))
            })
        },
    )?;
    let mut atomics = linker.instance("wasi:keyvalue/atomics@0.2.0-draft")?;
    atomics.func_wrap_async(
        "increment",
        |mut ctx: Ctx<'_>, (bucket, key, delta): (Held, String, u64)| {
            Box::new(async move {
                let sum = increment(&mut ctx, &bucket, key, delta.into(), Numbers::Unsigned);
                let said = sum.await?;
                Ok((said.map(|sum| u64::try_from(sum).unwrap_or(u64::MAX)),))
            })
        },
    )
}

fn add_second_draft(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut batch = linker.instance("wasi:keyvalue/batch@0.2.0-draft2")?;
    batch.func_wrap_async(
        "get-many",
        |mut ctx: Ctx<'_>, (bucket, keys): (Held, Vec<String>)| {
            Box::new(async move {
                let said = get(&mut ctx, &bucket, keys.clone()).await?;
                let pairs = |values: Vec<Option<Vec<u8>>>| -> Vec<(String, Option<Vec<u8>>)> {
                    keys.into_iter().zip(values).collect()
                };
                Ok((said.map(pairs),))
            })
        },
    )?;
    let mut atomics = linker.instance("wasi:keyvalue/atomics@0.2.0-draft2")?;
    atomics.func_wrap_async(
        "increment",
        |mut ctx: Ctx<'_>, (bucket, key, delta): (Held, String, i64)| {
            Box::new(async move {
                let sum = increment(&mut ctx, &bucket, key, delta.into(), Numbers::Signed);
                let said = sum.await?;
                Ok((said.map(|sum| i64::try_from(sum).unwrap_or(i64::MAX)),))
            })
        },
    )?;
    add_cas(&mut atomics)
}

fn add_cas(atomics: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    atomics.resource("cas", ResourceType::host::<Cas>(), |mut ctx, rep| {
        ctx.data_mut().table.delete(Resource::<Cas>::new_own(rep))?;
        Ok(())
    })?;
    atomics.func_wrap_async(
        "[static]cas.new",
        |mut ctx: Ctx<'_>, (bucket, key): (Held, String)| {
            Box::new(async move {
                let bucket = name(&ctx, &bucket)?;
                Ok((cas(&mut ctx, bucket, key).await?,))
            })
        },
    )?;
    atomics.func_wrap_async(
        "[method]cas.current",
        |mut ctx: Ctx<'_>, (handle,): (Resource<Cas>,)| {
            Box::new(async move { Ok((current(&mut ctx, &handle).await?,)) })
        },
    )?;
    atomics.func_wrap_async(
        "swap",
        |mut ctx: Ctx<'_>, (handle, value): (Resource<Cas>, Vec<u8>)| {
            Box::new(async move { Ok((swap(&mut ctx, handle, value).await?,)) })
        },
    )
}

async fn open(ctx: &mut Ctx<'_>, name: String) -> wasmtime::Result<Said<Held>> {
    // The host of wasmtime's own command line calls its only store that.
    let name = if name.is_empty() {
        DEFAULT_BUCKET.to_owned()
    } else {
        name
    };
    if let Err(error) = ask(ctx, &name, Ask::Open).await {
        return Ok(Err(error));
    }
    let bucket = Bucket { name: name.into() };
    Ok(Ok(ctx.data_mut().table.push(bucket)?))
}

async fn get(
    ctx: &mut Ctx<'_>,
    bucket: &Held,
    keys: Vec<String>,
) -> wasmtime::Result<Said<Vec<Option<Vec<u8>>>>> {
    let name = name(ctx, bucket)?;
    let said = ask(ctx, &name, Ask::Get(keys)).await;
    Ok(said.and_then(|answer| match answer {
        Answer::Entries(entries) => {
            let values = entries.into_iter();
            let values = values.map(|entry| entry.map(|entry| Vec::from(entry.value)));
            Ok(values.collect())
        }
        _ => Err(unexpected()),
    }))
}

async fn write(
    ctx: &mut Ctx<'_>,
    bucket: &Held,
    changes: Vec<Change>,
) -> wasmtime::Result<Said<()>> {
    let name = name(ctx, bucket)?;
    Ok(ask(ctx, &name, Ask::Write(changes)).await.map(drop))
}

async fn increment(
    ctx: &mut Ctx<'_>,
    bucket: &Held,
    key: String,
    by: i128,
    numbers: Numbers,
) -> wasmtime::Result<Said<i128>> {
    let name = name(ctx, bucket)?;
    let said = ask(ctx, &name, Ask::Increment(key, by, numbers)).await;
    Ok(said.and_then(|answer| match answer {
        Answer::Number(sum) => Ok(sum),
        _ => Err(unexpected()),
    }))
}

async fn list<C: Cursor>(
    ctx: &mut Ctx<'_>,
    bucket: &Held,
    cursor: Option<C>,
) -> wasmtime::Result<Said<KeyResponse<C>>> {
    let name = name(ctx, bucket)?;
    // From the first page on in the order of the draft's cursor.
    let after = cursor.map_or_else(C::start, C::after);
    let said = ask(ctx, &name, Ask::List(after)).await;
    Ok(said.and_then(|answer| match answer {
        Answer::Keys(keys) => {
            let last = keys.last().filter(|_| keys.len() == MAX_PAGE as usize);
            let cursor = last.map(C::of);
            let keys = keys.into_iter().map(|listed| listed.key).collect();
            Ok(KeyResponse { keys, cursor })
        }
        _ => Err(unexpected()),
    }))
}

async fn cas(
    ctx: &mut Ctx<'_>,
    bucket: Arc<str>,
    key: String,
) -> wasmtime::Result<Said<Resource<Cas>>> {
    let seen = match ask(ctx, &bucket, Ask::Look(key.clone())).await {
        Ok(Answer::Known(seen)) => seen,
        Ok(_) => return Ok(Err(unexpected())),
        Err(error) => return Ok(Err(error)),
    };
    let cas = Cas { bucket, key, seen };
    Ok(Ok(ctx.data_mut().table.push(cas)?))
}

/// What is there now; from here on the handle stands for that.
async fn current(
    ctx: &mut Ctx<'_>,
    handle: &Resource<Cas>,
) -> wasmtime::Result<Said<Option<Vec<u8>>>> {
    let cas = ctx.data().table.get(handle)?;
    let (bucket, key) = (Arc::clone(&cas.bucket), cas.key.clone());
    let entry = match ask(ctx, &bucket, Ask::Get(vec![key])).await {
        Ok(Answer::Entries(mut entries)) => entries.pop().flatten(),
        Ok(_) => return Ok(Err(unexpected())),
        Err(error) => return Ok(Err(error)),
    };
    let seen = entry.as_ref().map(|entry| entry.revision);
    ctx.data_mut().table.get_mut(handle)?.seen = seen;
    Ok(Ok(entry.map(|entry| Vec::from(entry.value))))
}

async fn swap(
    ctx: &mut Ctx<'_>,
    handle: Resource<Cas>,
    value: Vec<u8>,
) -> wasmtime::Result<Result<(), CasError>> {
    let Cas { bucket, key, seen } = ctx.data_mut().table.delete(handle)?;
    let change = Change {
        key: key.clone(),
        value: Some(Bytes::from(value)),
        condition: seen.map_or(Condition::Absent, Condition::Is),
    };
    match plainly(ctx, &bucket, Ask::Write(vec![change])).await {
        Ok(_) => Ok(Ok(())),
        Err(error) if error.code == code::KV_CONDITION => {
            let again = cas(ctx, bucket, key).await?;
            Ok(Err(match again {
                Ok(again) => CasError::CasFailed(again),
                Err(error) => CasError::StoreError(error),
            }))
        }
        Err(error) => Ok(Err(CasError::StoreError(told(ctx, &error)))),
    }
}

fn name(ctx: &Ctx<'_>, bucket: &Held) -> wasmtime::Result<Arc<str>> {
    Ok(Arc::clone(&ctx.data().table.get(bucket)?.name))
}

fn change(key: String, value: Option<Vec<u8>>) -> Change {
    Change {
        key,
        value: value.map(Bytes::from),
        condition: Condition::Any,
    }
}

async fn ask(ctx: &mut Ctx<'_>, bucket: &str, ask: Ask) -> Said<Answer> {
    let answer = plainly(ctx, bucket, ask).await;
    answer.map_err(|error| told(ctx, &error))
}

async fn plainly(ctx: &mut Ctx<'_>, bucket: &str, ask: Ask) -> Result<Answer, Error> {
    attribute(ctx);
    let pool = Arc::clone(&ctx.data().run().pool);
    pool.ctx.host.keyvalue(&pool.presence, bucket, ask).await
}

/// What a guest is told; what is to be changed in the manifest is told to the workload's log.
fn told(ctx: &Ctx<'_>, error: &Error) -> StoreError {
    if error.code == code::KV_NOT_DECLARED {
        ctx.data().run().say(error.to_string());
        return StoreError::AccessDenied;
    }
    StoreError::Other(error.to_string())
}

fn unexpected() -> StoreError {
    StoreError::Other("the platform answered something else than was asked".to_owned())
}
