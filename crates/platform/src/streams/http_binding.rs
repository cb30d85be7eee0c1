//! Streams over HTTP: `POST` appends CloudEvents (as `/events` takes them), `GET` reads, and a snapshot is put and got as it is.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use model::{AppName, Error, Time, code};
use runtime::{Body, Caller};
use serde_json::{Value, json};
use store::log::{Appended, Logged, Snapshot, StreamHead, StreamPage};

use super::{
    Outcome, Streams, User,
    wire::{self, Place, Start},
};
use crate::{events::http_binding, problem};

/// The longest media type of a snapshot, in bytes.
const MAX_KIND: usize = 255;

impl Streams {
    /// Serves what a workload asks over the mesh; `path` is what follows `/streams`.
    pub(crate) async fn serve(
        &self,
        caller: &Caller,
        trace: model::TraceContext,
        path: &str,
        request: Request<Body>,
    ) -> Response<Body> {
        let user = User::Workload(caller, trace);
        let answer = self.answer(&user, path, request).await;
        answer.unwrap_or_else(|error| problem::response(&error, None))
    }

    /// Serves what an operator asks of the streams of `app`; `path` is what follows the app.
    ///
    /// # Errors
    /// Why it was refused: nothing was appended.
    pub async fn serve_operator(
        &self,
        app: &AppName,
        trace: model::TraceContext,
        path: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        self.events.apps.find(app.as_str())?;
        self.answer(&User::Operator(app, trace), path, request)
            .await
    }

    async fn answer(
        &self,
        user: &User<'_>,
        path: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let (head, body) = request.into_parts();
        match (wire::place(path)?, &head.method) {
            (Place::All, &Method::GET) => self.show_all(user, &head).await,
            (Place::Stream(subject), &Method::GET) => self.show(user, &subject, &head).await,
            (Place::Stream(subject), &Method::POST) => self.post(user, &subject, head, body).await,
            (Place::Stream(subject), &Method::DELETE) => self.cut(user, &subject, &head).await,
            (Place::Snapshot(subject), &Method::GET) => {
                query(&head, &[])?;
                self.get_snapshot(user, &subject).await
            }
            (Place::Snapshot(subject), &Method::PUT) => self.put(user, &subject, &head, body).await,
            (_, method) => {
                let message = format!(
                    "{method} is not for this: streams are listed and read with GET, appended to with POST, shortened with DELETE; \
                     snapshots are read with GET and put with PUT"
                );
                Err(Error::new(code::METHOD_NOT_ALLOWED, message))
            }
        }
    }

    async fn show_all(&self, user: &User<'_>, head: &Parts) -> Result<Response<Body>, Error> {
        let asked = query(head, &["prefix", "after", "limit"])?;
        let listed = self
            .list(user, asked.prefix, asked.after, asked.limit)
            .await?;
        let more = listed
            .last()
            .filter(|_| listed.len() == asked.limit as usize);
        let next = more.map(|last| last.subject.clone());
        let rows: Vec<Value> = listed.iter().map(row).collect();
        Ok(in_json(
            StatusCode::OK,
            None,
            &json!({"streams": rows, "next": next}),
        ))
    }

    async fn show(
        &self,
        user: &User<'_>,
        subject: &str,
        head: &Parts,
    ) -> Result<Response<Body>, Error> {
        let asked = query(head, &["from", "limit"])?;
        let (from, snapshot) = match asked.from {
            Start::Version(from) => (from.max(1), None),
            Start::Snapshot => {
                let snapshot = self.snapshot(user, subject).await?;
                let from = snapshot.as_ref().map_or(1, |one| one.version + 1);
                (from, Some(snapshot))
            }
        };
        let page = self.read(user, subject, from, asked.limit).await?;
        let mut shown = shown(&page, from);
        if let Some(snapshot) = snapshot {
            shown["snapshot"] = snapshot.as_ref().map_or(Value::Null, of_snapshot);
        }
        Ok(in_json(StatusCode::OK, Some(page.head.version), &shown))
    }

    async fn post(
        &self,
        user: &User<'_>,
        subject: &str,
        head: Parts,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let asked = query(&head, &["expected"])?;
        let request = Request::from_parts(head, body);
        let events = http_binding::read(request, &self.events.limits, &self.events).await?;
        let ids: Vec<String> = events
            .iter()
            .map(|event| {
                event
                    .as_ref()
                    .map_or_else(|_| String::new(), |e| e.id.clone())
            })
            .collect();
        match self.append(user, subject, asked.expected, events).await? {
            Outcome::Done(done) => Ok(appended(subject, &ids, &done)),
            Outcome::At(actual) => {
                let expected = asked.expected.unwrap_or_default();
                let message = format!(
                    "the stream of `{subject}` is at version {actual}, not at {expected}: read what is new, and decide again"
                );
                Ok(conflict(message, actual))
            }
        }
    }

    async fn cut(
        &self,
        user: &User<'_>,
        subject: &str,
        head: &Parts,
    ) -> Result<Response<Body>, Error> {
        let asked = query(head, &["through"])?;
        let through = asked.through.ok_or_else(|| {
            let message = "say up to which version events are taken out: `?through=N`";
            Error::new(code::BAD_REQUEST, message)
        })?;
        match self.truncate(user, subject, through).await? {
            None => Ok(in_json(
                StatusCode::OK,
                None,
                &json!({"stream": subject, "removed_through": through}),
            )),
            Some(actual) => Ok(too_early(subject, actual, through)),
        }
    }

    async fn get_snapshot(&self, user: &User<'_>, subject: &str) -> Result<Response<Body>, Error> {
        let snapshot = self.snapshot(user, subject).await?.ok_or_else(|| {
            let message = format!("the stream of `{subject}` has no snapshot");
            Error::new(code::NO_SUCH_STREAM, message)
        })?;
        let mut response = Response::new(Body::full(snapshot.body));
        let headers = response.headers_mut();
        headers.insert(header::ETAG, tag(snapshot.version));
        let kind = HeaderValue::try_from(snapshot.kind);
        let other = |_| HeaderValue::from_static("application/octet-stream");
        headers.insert(header::CONTENT_TYPE, kind.unwrap_or_else(other));
        Ok(response)
    }

    async fn put(
        &self,
        user: &User<'_>,
        subject: &str,
        head: &Parts,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let asked = query(head, &["version"])?;
        let version = asked.version.ok_or_else(|| {
            let message = "say which version the snapshot is of: `?version=N`";
            Error::new(code::BAD_REQUEST, message)
        })?;
        let limit = self.events.limits.keyvalue_value;
        let body = self.events.buffers.read(body, limit, "the snapshot is");
        let body = body.await?;
        let snapshot = Snapshot {
            version,
            at: Time(0),
            kind: kind(head)?,
            body,
        };
        match self.put_snapshot(user, subject, snapshot).await? {
            None => Ok(response(StatusCode::NO_CONTENT, Some(version))),
            Some(actual) => Ok(too_early(subject, actual, version)),
        }
    }
}

fn query(head: &Parts, known: &[&str]) -> Result<wire::Query, Error> {
    wire::query(head.uri.query().unwrap_or_default(), known)
}

fn kind(head: &Parts) -> Result<String, Error> {
    let headers: &HeaderMap = &head.headers;
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return Ok("application/octet-stream".to_owned());
    };
    let text = kind.to_str().ok().filter(|kind| kind.len() <= MAX_KIND);
    let wrong = || Error::new(code::BAD_REQUEST, "`content-type` is no media type");
    text.map(str::to_owned).ok_or_else(wrong)
}

fn row(head: &StreamHead) -> Value {
    json!({
        "stream": head.subject, "version": head.version, "first": head.first, "changed_at": head.at.rfc3339(),
    })
}

/// A page; `next` is where to go on, and `gone_through` says that the first events that were asked for were taken out.
fn shown(page: &StreamPage, from: u64) -> Value {
    let head = &page.head;
    let last = page.events.last().map(|(version, _)| *version);
    let next = last
        .filter(|last| *last < head.version)
        .map(|last| last + 1);
    let event = |(version, logged): &(u64, Logged)| {
        json!({
            "version": version, "position": logged.position, "published_at": logged.at.rfc3339(),
            "event": logged.event.to_json(),
        })
    };
    let events: Vec<Value> = page.events.iter().map(event).collect();
    let mut shown = row(head);
    shown["events"] = events.into();
    shown["next"] = next.into();
    if from < head.first {
        shown["gone_through"] = (head.first - 1).into();
    }
    shown
}

/// JSON as JSON, anything else as base64.
fn of_snapshot(snapshot: &Snapshot) -> Value {
    let mut shown = json!({
        "version": snapshot.version, "content_type": snapshot.kind, "put_at": snapshot.at.rfc3339(),
    });
    match serde_json::from_slice::<Value>(&snapshot.body) {
        Ok(data) => shown["data"] = data,
        Err(_) => shown["data_base64"] = STANDARD.encode(&snapshot.body).into(),
    }
    shown
}

fn appended(subject: &str, ids: &[String], done: &[(u64, Appended)]) -> Response<Body> {
    let version = done.last().map(|(version, _)| *version);
    let again = done.iter().all(|(_, appended)| appended.duplicate);
    let rows = ids.iter().zip(done).map(|(id, (version, appended))| {
        json!({
            "id": id, "version": version, "position": appended.position, "duplicate": appended.duplicate,
        })
    });
    let rows: Vec<Value> = rows.collect();
    let status = match again {
        true => StatusCode::OK,
        false => StatusCode::CREATED,
    };
    let body = json!({"stream": subject, "version": version, "events": rows});
    in_json(status, version, &body)
}

fn too_early(subject: &str, actual: u64, asked: u64) -> Response<Body> {
    let message =
        format!("the stream of `{subject}` is at version {actual}, and has no version {asked}");
    conflict(message, actual)
}

/// 409 that says where the stream is.
fn conflict(message: String, actual: u64) -> Response<Body> {
    let error = Error::new(code::STREAM_CONFLICT, message);
    let more = [("version", actual.into())];
    let mut response = problem::with(&error, None, more);
    response.headers_mut().insert(header::ETAG, tag(actual));
    response
}

fn in_json(status: StatusCode, version: Option<u64>, value: &Value) -> Response<Body> {
    let mut response = response(status, version);
    *response.body_mut() = Body::full(Bytes::from(value.to_string()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn response(status: StatusCode, version: Option<u64>) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    if let Some(version) = version {
        response.headers_mut().insert(header::ETAG, tag(version));
    }
    response
}

fn tag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits in quotes are a header's value")
}
