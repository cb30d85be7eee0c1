//! What the demonstration's customers do: real requests, whose answers are noted, not judged (`promises` judges).

use std::{collections::BTreeMap, net::SocketAddr, thread};

use anyhow::Context;
use serde_json::{Value, json};

use crate::http::{Client, Request, Response};

/// Customers who browse at the same time, and how many pages each looks at.
const BROWSERS: usize = 8;
const PAGES: usize = 50;
/// Orders that are placed and paid.
const ORDERS: usize = 12;

/// The trace of the sign-in that is printed as a tree: a made-up one, so that it can be asked for afterwards.
pub(super) const SIGN_IN_TRACE: &str = "5b8aa5a2d2c872e8321cf37308d69df2";
/// The trace of the order that is printed as a tree.
pub(super) const ORDER_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// HS256 with the demonstration's AUTH_SECRET: `{"iss":"shop","sub":"partner","exp":4102444800}`.
const PARTNER: &str = concat!(
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
    "eyJpc3MiOiJzaG9wIiwic3ViIjoicGFydG5lciIsImV4cCI6NDEwMjQ0NDgwMH0.",
    "XcdZUA6wSQ8MByJIL6LS54ue8amboTyiqC_g2Dz4dFo"
);

/// What was seen.
#[derive(Default)]
pub(super) struct Visit {
    /// Answers by what was asked: status and body.
    pub(super) answers: BTreeMap<&'static str, Answer>,
    /// Pages that answered otherwise than with 200.
    pub(super) bad_pages: usize,
    /// Pages that were looked at.
    pub(super) pages: usize,
    /// Ids of orders that were placed.
    pub(super) orders: Vec<String>,
    /// How many of them were paid, and for how much in all.
    pub(super) paid: usize,
    pub(super) revenue: u64,
    /// Where the queued order's state can be asked for.
    pub(super) queued: Option<String>,
    /// What the dashboard's WebSocket said first.
    pub(super) pushed: Option<String>,
    /// The token, for questions afterwards.
    pub(super) token: String,
}

/// One answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) content_type: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Visit {
    fn note(&mut self, what: &'static str, response: Response) -> &Answer {
        let answer = Answer {
            status: response.status,
            body: response.json(),
            content_type: response
                .header("content-type")
                .unwrap_or_default()
                .to_owned(),
            headers: response.headers,
        };
        self.answers.insert(what, answer);
        &self.answers[what]
    }
}

/// Visits the shop.
///
/// # Errors
/// When the gateway does not answer, or nobody can sign in: then there is nothing to demonstrate.
pub(super) fn visit(gateway: SocketAddr) -> anyhow::Result<Visit> {
    let mut visit = Visit::default();
    let mut client = Client::new(gateway);
    front_door(&mut client, &mut visit)?;
    (visit.pages, visit.bad_pages) = browse(gateway)?;
    sign_in(&mut client, &mut visit)?;
    // First, while `auth` does not remember the token: so its work is in the order's trace.
    order(&mut client, &mut visit)?;
    refused(&mut client, &mut visit)?;
    more_orders(gateway, &mut visit)?;
    queue(&mut client, &mut visit)?;
    visit.pushed = client
        .first_websocket_text("/live/socket")
        .map_err(|e| eprintln!("{e:#}"))
        .ok();
    Ok(visit)
}

fn front_door(client: &mut Client, visit: &mut Visit) -> anyhow::Result<()> {
    visit.note("health", client.send(&Request::get("/api/health"))?);
    let preflight = Request {
        method: "OPTIONS",
        path: "/api/orders",
        ..Request::default()
    };
    let preflight = preflight
        .header("origin", "http://localhost:3000")
        .header("access-control-request-method", "POST");
    visit.note("preflight", client.send(&preflight)?);
    visit.note(
        "catalogue",
        client.send(&Request::get("/api/search?limit=1"))?,
    );
    visit.note("genres", client.send(&Request::get("/api/catalog/genres"))?);
    visit.note(
        "no film",
        client.send(&Request::get("/api/catalog/films/f9999"))?,
    );
    visit.note("no route", client.send(&Request::get("/nothing/here"))?);
    visit.note(
        "poster",
        client.send(&Request::get("/api/thumbnails/f1265.svg"))?,
    );
    Ok(())
}

/// Pages looked at by all, and how many of them were not as they should be.
fn browse(gateway: SocketAddr) -> anyhow::Result<(usize, usize)> {
    let browsers: Vec<_> = (0..BROWSERS)
        .map(|number| thread::spawn(move || browse_alone(gateway, number)))
        .collect();
    let mut bad = 0;
    for browser in browsers {
        bad += browser
            .join()
            .map_err(|_| anyhow::anyhow!("a customer panicked"))??;
    }
    Ok((BROWSERS * PAGES, bad))
}

fn browse_alone(gateway: SocketAddr, number: usize) -> anyhow::Result<usize> {
    const WORDS: [&str; 6] = ["batman", "star", "nolan", "love", "the", "spielberg"];
    let mut client = Client::new(gateway);
    let mut bad = 0;
    for page in 0..PAGES {
        let at = number * PAGES + page;
        let path = match page % 5 {
            0 => format!("/api/search?q={}&limit=20", WORDS[at % WORDS.len()]),
            4 => format!("/api/thumbnails/f{:04}.svg", 1 + at * 7 % 3201),
            _ => format!("/api/catalog/films/f{:04}", 1 + at * 7 % 3201),
        };
        let response = client.send(&Request::get(&path))?;
        bad += usize::from(response.status != 200);
    }
    Ok(bad)
}

fn sign_in(client: &mut Client, visit: &mut Visit) -> anyhow::Result<()> {
    let credentials = |password: &str| json!({"user": "ada", "password": password});
    let wrong = Request::post("/api/sign-in", &credentials("guess"));
    visit.note("wrong password", client.send(&wrong)?);
    let right = Request::post("/api/sign-in", &credentials("lovelace"));
    let right = right.header(
        "traceparent",
        format!("00-{SIGN_IN_TRACE}-00f067aa0ba902b7-01"),
    );
    let answer = visit.note("sign-in", client.send(&right)?);
    let token = answer.body["token"].as_str();
    visit.token = token
        .with_context(|| format!("signing in answered {}: {}", answer.status, answer.body))?
        .to_owned();
    Ok(())
}

/// What must not get through.
fn refused(client: &mut Client, visit: &mut Visit) -> anyhow::Result<()> {
    let body = json!({"items": [{"film": "f1265"}]});
    let order = |token: String| Request::post("/api/orders", &body).header("authorization", token);
    visit.note(
        "no token",
        client.send(&Request::post("/api/orders", &body))?,
    );
    let (start, _) = visit.token.rsplit_once('.').unwrap_or_default();
    let forged = order(format!("Bearer {start}.{}", "A".repeat(86)));
    visit.note("forged token", client.send(&forged)?);
    // A client cannot name itself: only what `auth` answers does.
    let named = Request::get("/api/orders").header("x-tangelo-principal", "grace");
    visit.note("named itself", client.send(&named)?);
    visit.note(
        "partner",
        client.send(
            &Request::get("/api/orders").header("authorization", format!("Bearer {PARTNER}")),
        )?,
    );
    let token = bearer(visit);
    let unknown = json!({"items": [{"film": "f9999"}]});
    let unknown = Request::post("/api/orders", &unknown).header("authorization", token.clone());
    visit.note("unknown film", client.send(&unknown)?);
    let inside = Request {
        method: "PUT",
        path: "/internal/orders/o-1/risk",
        ..Request::default()
    };
    visit.note(
        "inside",
        client.send(&inside.header("authorization", token))?,
    );
    Ok(())
}

/// One order with everything that belongs to it.
fn order(client: &mut Client, visit: &mut Visit) -> anyhow::Result<()> {
    let token = bearer(visit);
    let body =
        json!({"items": [{"film": "f1265", "quantity": 9}, {"film": "f0146", "quantity": 1}]});
    let request = Request::post("/api/orders", &body)
        .header("authorization", token.clone())
        .header("idempotency-key", "the-first-order");
    let traced = request.clone().header(
        "traceparent",
        format!("00-{ORDER_TRACE}-00f067aa0ba902b7-01"),
    );
    let placed = visit.note("order", client.send(&traced)?);
    let id = placed.body["id"].as_str().unwrap_or_default().to_owned();
    let total = placed.body["total"].as_u64().unwrap_or_default();
    visit.note("the same order", client.send(&request)?);
    let path = format!("/api/orders/{id}/payment");
    let pay = |card: &str| {
        Request::post(&path, &json!({"card": card})).header("authorization", token.clone())
    };
    visit.note("declined card", client.send(&pay("4000 0000 0000 0002"))?);
    let paid = visit
        .note("payment", client.send(&pay("4242 4242 4242 4242"))?)
        .status
        == 200;
    visit.orders.push(id);
    visit.paid += usize::from(paid);
    visit.revenue += if paid { total } else { 0 };
    Ok(())
}

/// Several customers order at the same time.
fn more_orders(gateway: SocketAddr, visit: &mut Visit) -> anyhow::Result<()> {
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let token = bearer(visit);
            thread::spawn(move || order_alone(gateway, &token, number))
        })
        .collect();
    for customer in threads {
        let placed = customer
            .join()
            .map_err(|_| anyhow::anyhow!("a customer panicked"))??;
        for (id, total) in placed {
            visit.orders.push(id);
            visit.paid += 1;
            visit.revenue += total;
        }
    }
    Ok(())
}

/// Ids and totals of the orders that were placed and paid.
fn order_alone(
    gateway: SocketAddr,
    token: &str,
    number: usize,
) -> anyhow::Result<Vec<(String, u64)>> {
    let mut client = Client::new(gateway);
    let mut done = Vec::new();
    for at in 0..ORDERS / 4 {
        let body = json!({"items": [{"film": format!("f{:04}", 1 + number * 100 + at), "quantity": 1 + at}]});
        let placed = client
            .send(&Request::post("/api/orders", &body).header("authorization", token))?
            .json();
        let (Some(id), Some(total)) = (placed["id"].as_str(), placed["total"].as_u64()) else {
            continue;
        };
        let path = format!("/api/orders/{id}/payment");
        let pay = Request::post(&path, &json!({"card": "4242424242424242"}));
        if client.send(&pay.header("authorization", token))?.status == 200 {
            done.push((id.to_owned(), total));
        }
    }
    Ok(done)
}

/// An order that is accepted now and made later.
fn queue(client: &mut Client, visit: &mut Visit) -> anyhow::Result<()> {
    let body = json!({"items": [{"film": "f0500"}]});
    let request = Request::post("/api/queued-orders", &body).header("authorization", bearer(visit));
    let answer = visit.note("queued order", client.send(&request)?);
    let location = answer
        .headers
        .iter()
        .find(|(name, _)| name == "location")
        .map(|(_, v)| v.clone());
    visit.queued = location.or_else(|| answer.body["status_url"].as_str().map(str::to_owned));
    Ok(())
}

/// The header that says who is signed in.
pub(super) fn bearer(visit: &Visit) -> String {
    format!("Bearer {}", visit.token)
}
