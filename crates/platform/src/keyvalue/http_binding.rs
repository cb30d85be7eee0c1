//! Buckets over HTTP: `GET`, `HEAD`, `PUT` and `DELETE` of a key with entity tags (RFC 9110 §13), `POST …?increment=N`, and
//! lists as JSON.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use model::{
    Error, code,
    keyvalue::{Access, After, Bucket, Change, Listed, Numbers, Revision},
};
use runtime::{Body, Presence};
use serde_json::{Value, json};
use store::kv::Written;

use super::{
    KeyValue, User,
    wire::{self, Place, Query},
};
use crate::problem;

impl KeyValue {
    /// Serves what a workload asks over the mesh; `path` is what follows `/kv`.
    pub(crate) async fn serve(
        &self,
        presence: &Presence,
        path: &str,
        request: Request<Body>,
    ) -> Response<Body> {
        let answer = self.answer(&User::Workload(presence), path, request).await;
        answer.unwrap_or_else(|error| problem::response(&error, None))
    }

    /// Serves what an operator asks of the buckets of `app`; `path` is what follows the app.
    ///
    /// # Errors
    /// Why it was refused: nothing was written.
    pub async fn serve_operator(
        &self,
        app: &model::AppName,
        path: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        self.answer(&User::Operator(app), path, request).await
    }

    async fn answer(
        &self,
        user: &User<'_>,
        path: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let (head, body) = request.into_parts();
        let query = wire::query(head.uri.query().unwrap_or_default())?;
        match wire::place(path)? {
            Place::Buckets => {
                only(&head, &[Method::GET])?;
                self.list_buckets(user).await
            }
            Place::Bucket(name) => {
                only(&head, &[Method::GET])?;
                let bucket = self.bucket(user, &name, Access::Read).await?;
                self.list(&bucket, query).await
            }
            Place::Key(name, key) => {
                let reads = matches!(head.method, Method::GET | Method::HEAD);
                let access = if reads { Access::Read } else { Access::Write };
                let bucket = self.bucket(user, &name, access).await?;
                self.key(&bucket, key, &head, &query, body).await
            }
        }
    }

    async fn key(
        &self,
        bucket: &Bucket,
        key: String,
        head: &Parts,
        query: &Query,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        match head.method {
            Method::GET => self.get(bucket, key, head).await,
            Method::HEAD => self.look(bucket, key).await,
            Method::PUT => self.put(bucket, key, head, body).await,
            Method::DELETE => self.delete(bucket, key, head).await,
            Method::POST => match query.increment {
                Some(by) => self.increment(bucket, key, by).await,
                None => {
                    let message = "a POST of a key says what to add: `?increment=1`";
                    Err(Error::new(code::BAD_REQUEST, message))
                }
            },
            _ => Err(not_allowed(head)),
        }
    }

    async fn get(
        &self,
        bucket: &Bucket,
        key: String,
        head: &Parts,
    ) -> Result<Response<Body>, Error> {
        let mut entries = self.kv.get(bucket, vec![key.clone()]).await?;
        let entry = entries
            .pop()
            .flatten()
            .ok_or_else(|| not_found(bucket, &key))?;
        let known = head.headers.get(header::IF_NONE_MATCH);
        let known = known.and_then(|value| wire::revision(value.to_str().ok()?.trim()));
        if known == Some(entry.revision) {
            return Ok(response(
                StatusCode::NOT_MODIFIED,
                Some(entry.revision),
                Bytes::new(),
            ));
        }
        Ok(response(StatusCode::OK, Some(entry.revision), entry.value))
    }

    async fn look(&self, bucket: &Bucket, key: String) -> Result<Response<Body>, Error> {
        let found = self.kv.look(bucket, key.clone()).await?;
        let found = found.ok_or_else(|| not_found(bucket, &key))?;
        let mut response = response(StatusCode::OK, Some(found.revision), Bytes::new());
        let length = HeaderValue::from(found.size);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        Ok(response)
    }

    async fn put(
        &self,
        bucket: &Bucket,
        key: String,
        head: &Parts,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let condition = wire::condition(&head.headers)?;
        let limit = self.limits.keyvalue_value;
        let value = self.buffers.read(body, limit, "the value is").await?;
        let change = Change {
            key,
            value: Some(value),
            condition,
        };
        match self.write(bucket, vec![change]).await?[..] {
            [Written::Put { revision, created }] => {
                let status = match created {
                    true => StatusCode::CREATED,
                    false => StatusCode::NO_CONTENT,
                };
                Ok(response(status, Some(revision), Bytes::new()))
            }
            _ => Err(Error::internal("a put was not answered as one")),
        }
    }

    /// Deleting what is not there is done, unless the request wants it to be there.
    async fn delete(
        &self,
        bucket: &Bucket,
        key: String,
        head: &Parts,
    ) -> Result<Response<Body>, Error> {
        let change = Change {
            key,
            value: None,
            condition: wire::condition(&head.headers)?,
        };
        self.write(bucket, vec![change]).await?;
        Ok(response(StatusCode::NO_CONTENT, None, Bytes::new()))
    }

    async fn increment(
        &self,
        bucket: &Bucket,
        key: String,
        by: i64,
    ) -> Result<Response<Body>, Error> {
        let sum = self.kv.increment(bucket, key, by.into(), Numbers::Signed);
        let (sum, revision) = sum.await?;
        Ok(response(
            StatusCode::OK,
            Some(revision),
            sum.to_string().into(),
        ))
    }

    async fn list(&self, bucket: &Bucket, query: Query) -> Result<Response<Body>, Error> {
        let after = query.after.map_or(After::Start, After::Key);
        let listed = self.kv.list(bucket, query.prefix, after, query.limit);
        let listed = listed.await?;
        let next = listed
            .last()
            .filter(|_| listed.len() == query.limit as usize);
        let next = next.map(|last| last.key.clone());
        let keys: Vec<Value> = listed.iter().map(row).collect();
        Ok(in_json(&json!({"keys": keys, "next": next})))
    }

    async fn list_buckets(&self, user: &User<'_>) -> Result<Response<Body>, Error> {
        let (app, declared) = match user {
            User::Workload(presence) => {
                let known = self.versions.get(presence.version)?;
                let names: Vec<_> = known.workload.buckets.keys().cloned().collect();
                (presence.app.clone(), Some(names))
            }
            User::Operator(app) => ((*app).clone(), None),
        };
        let mut all = self.buckets(Some(app)).await?;
        if let Some(declared) = declared {
            all.retain(|one| declared.contains(&one.bucket));
        }
        Ok(in_json(&json!({ "buckets": all })))
    }
}

fn row(listed: &Listed) -> Value {
    json!({
        "key": listed.key,
        "size": listed.size,
        "etag": wire::tag(listed.revision),
        "updated_at": listed.updated_at,
    })
}

fn in_json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::full(value.to_string()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn response(status: StatusCode, revision: Option<Revision>, value: Bytes) -> Response<Body> {
    let empty = value.is_empty() && status != StatusCode::OK;
    let body = if empty {
        Body::Empty
    } else {
        Body::full(value)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::OK {
        let kind = HeaderValue::from_static("application/octet-stream");
        headers.insert(header::CONTENT_TYPE, kind);
    }
    if let Some(revision) = revision {
        let tag = wire::tag(revision);
        let tag = HeaderValue::try_from(tag).expect("digits in quotes are a header's value");
        headers.insert(header::ETAG, tag);
    }
    response
}

fn not_found(bucket: &Bucket, key: &str) -> Error {
    let message = format!("nothing is under `{key}` in the bucket `{}`", bucket.name);
    Error::new(code::KV_NOT_FOUND, message)
}

fn only(head: &Parts, methods: &[Method]) -> Result<(), Error> {
    match methods.contains(&head.method) {
        true => Ok(()),
        false => Err(not_allowed(head)),
    }
}

fn not_allowed(head: &Parts) -> Error {
    let message = format!(
        "{} is not for this: buckets are listed with GET; keys are read with GET and HEAD, written with PUT, deleted with \
         DELETE, counted up with POST",
        head.method
    );
    Error::new(code::METHOD_NOT_ALLOWED, message)
}
