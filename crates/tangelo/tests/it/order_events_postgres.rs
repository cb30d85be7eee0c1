//! The example `order-events-postgres`: an order service on a real Postgres, with an outbox, and a search that is fed by the
//! changes of its tables: unplugged, dropped and built again.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Postgres, Server, eventually};

use crate::TANGELO;

const APP: &str = "order-events-postgres";
const RAISES: &str = "def handler(event, context):\n    raise RuntimeError('unplugged')\n";
const HANGS: &str = "    import time; time.sleep(600)\n";
/// Where the search takes what it is handed.
const TAKES: &str = "def apply(db, generation, change):\n";

fn example() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/order-events-postgres")
}

/// The same with every number as a fraction: 25 and 25.0 are the same total.
fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, plain(value)))
            .collect(),
        other => other,
    }
}

/// The example as its README has it set up: database, tables, secret, capture.
struct Shop {
    database: Postgres,
    server: Server,
    _secrets: tempfile::NamedTempFile,
}

impl Shop {
    /// `None`: this machine has no Postgres.
    #[allow(
        clippy::disallowed_methods,
        reason = "the test's own path, before which python's folder goes"
    )]
    async fn open() -> Result<Option<Self>> {
        let Some(database) = Postgres::start() else {
            return Ok(None);
        };
        database.psql("CREATE ROLE guarded LOGIN REPLICATION PASSWORD 'sesame-4711'")?;
        database.psql("GRANT CREATE ON SCHEMA public TO guarded; GRANT CREATE ON DATABASE postgres TO guarded")?;
        for file in ["orders/schema.sql", "orders/outbox.sql"] {
            let text = std::fs::read_to_string(example().join(file))?;
            database.psql(&format!("SET ROLE guarded; {text}"))?;
        }
        let secrets = tempfile::NamedTempFile::new()?;
        std::fs::write(secrets.path(), "SHOP_DB_PASSWORD = \"sesame-4711\"\n")?;
        let file = secrets.path().to_string_lossy().into_owned();
        // Where the driver is installed that the order service imports.
        let python = testkit::tools("tangelo").join("venv/bin");
        let path = format!("PATH={}:{}", python.display(), std::env::var("PATH")?);
        let server = Server::start_by(&["env".to_owned(), path], TANGELO, &["--secrets", &file])?;
        let copied = Command::new("cp")
            .arg("-r")
            .arg(example())
            .arg(server.scratch())
            .status()?;
        anyhow::ensure!(copied.success(), "the example is copied");
        let shop = Self {
            database,
            server,
            _secrets: secrets,
        };
        let url = shop.database.url().replace("postgres@", "guarded@");
        shop.edit("tangelo.yaml", |text| {
            text.replace("postgres://shop@localhost:5432/shop", &url)
        })?;
        shop.deploy()?;
        shop.server
            .json(&["capture", "init", &format!("{APP}/shop")])?;
        eventually("the capture relays", || async {
            let captures = shop.server.json(&["capture"]).ok()?;
            (captures["captures"][0]["state"] == "relaying").then_some(())
        })
        .await;
        Ok(Some(shop))
    }

    fn deploy(&self) -> Result<()> {
        self.server.deploy_folder(&self.server.scratch()).map(drop)
    }

    /// Changes a file; what it was.
    fn edit(&self, file: &str, change: impl FnOnce(&str) -> String) -> Result<String> {
        let file = self.server.scratch().join(file);
        let before = std::fs::read_to_string(&file)?;
        std::fs::write(&file, change(&before))?;
        Ok(before)
    }

    async fn product(&self, sku: &str, name: &str) -> Result<()> {
        let product = json!({"sku": sku, "name": name, "price": 12.5});
        let made = self.server.gateway().post("/products", &product).await?;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        Ok(())
    }

    /// An order that is made, paid and shipped.
    async fn order(&self, sku: &str, quantity: u32) -> Result<()> {
        let gateway = self.server.gateway();
        let order = json!({"customer": "ada@example.com", "sku": sku, "quantity": quantity});
        let made = gateway.post("/orders", &order).await?;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        let id = made.json()["id"].as_str().context("an id")?.to_owned();
        for step in ["pay", "ship"] {
            let path = format!("/orders/{id}/{step}");
            let done = gateway.post(&path, &json!({})).await?;
            assert_eq!(done.status, StatusCode::OK, "{}", done.text());
        }
        Ok(())
    }

    /// What the search is to have, as the database says it.
    fn truth(&self) -> Result<Value> {
        let text = self.database.psql(
            "SELECT json_agg(row ORDER BY key COLLATE \"C\") FROM (
               SELECT 'products/' || sku AS key, json_build_object('key', 'products/' || sku, 'sku', sku, 'name', name,
                 'price', price) AS row FROM products
               UNION ALL
               SELECT 'orders/' || o.id, json_build_object('key', 'orders/' || o.id, 'id', o.id, 'customer', customer, 'sku', o.sku,
                 'quantity', quantity, 'total', total, 'state', state, 'name', p.name) FROM orders o JOIN products p USING (sku)
             ) AS documents",
        )?;
        Ok(plain(serde_json::from_str(&text)?))
    }

    /// What the search finds, and in which generation.
    async fn search(&self, words: &str) -> Option<(u64, Value)> {
        let path = format!("/search?q={words}");
        let answer = self.server.gateway().get(&path).await.ok()?;
        let answer = answer.json();
        let generation = answer["generation"].as_u64()?;
        Some((generation, plain(answer["found"].clone())))
    }

    /// Waits until the search has in a generation what the database has.
    async fn search_agrees(&self, generation: u64) -> Result<()> {
        let truth = self.truth()?;
        eventually("the search has what the database has", || async {
            (self.search("").await? == (generation, truth.clone())).then_some(())
        })
        .await;
        Ok(())
    }

    async fn mails(&self) -> usize {
        let answer = self.server.gateway().get("/mails").await;
        let mails = answer.map_or(Value::Null, |answer| answer.json());
        mails.as_array().map_or(0, Vec::len)
    }

    async fn mails_reach(&self, count: usize) {
        eventually("every mail is written, once", || async {
            (self.mails().await == count).then_some(())
        })
        .await;
    }

    /// Everything has left the outbox: the service waits for nobody.
    async fn outbox_empties(&self, sent: usize) {
        eventually("the outbox is empty", || async {
            let status = self.server.json(&["outbox"]).ok()?["outboxes"][0].clone();
            (status["waiting"] == 0 && status["sent"] == sent).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn rows_and_events_of_a_postgres_reach_who_wants_them() -> Result<()> {
    let Some(shop) = Shop::open().await? else {
        return Ok(());
    };
    let printed = shop.server.json(&["outbox", "init", "postgres"])?;
    let outbox = std::fs::read_to_string(example().join("orders/outbox.sql"))?;
    assert_eq!(
        printed["sql"], outbox,
        "the example has the outbox that is printed"
    );
    let checked = Command::new(TANGELO)
        .args(["--json", "check"])
        .arg(example())
        .output()?;
    assert!(checked.status.success(), "{checked:?}");

    shop.product("lamp", "Desk lamp").await?;
    shop.product("chair", "Garden chair").await?;
    shop.order("lamp", 2).await?;
    shop.mails_reach(2).await;
    shop.search_agrees(1).await?;
    let found = shop.search("ada+desk").await.context("it answers")?.1;
    assert_eq!(found[0]["state"], "shipped", "{found}");
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    // Somebody's hand in the database: the service knows nothing of it, and the orders of a product have its new name.
    shop.database
        .psql("UPDATE products SET name = 'Reading lamp' WHERE sku = 'lamp'; DELETE FROM products WHERE sku = 'chair'")?;
    shop.search_agrees(1).await?;
    assert_eq!(shop.search("desk").await, Some((1, json!([]))));

    let gateway = shop.server.gateway();
    let unknown = json!({"customer": "ada@example.com", "sku": "none", "quantity": 1});
    let refused = gateway.post("/orders", &unknown).await?;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let renamed = json!({"name": "Floor lamp", "price": 50}).to_string();
    let json = [("content-type", "application/json")];
    let put = gateway
        .send(Method::PUT, "/products/lamp", &json, renamed.into())
        .await?;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text());
    shop.search_agrees(1).await?;
    shop.outbox_empties(3).await;
    Ok(())
}

/// Each consumer in turn raises or hangs: orders go on, and it catches up when it is mended. Then server and database are killed.
#[tokio::test]
async fn unplugged_consumers_of_a_postgres_catch_up() -> Result<()> {
    let Some(mut shop) = Shop::open().await? else {
        return Ok(());
    };
    shop.product("lamp", "Desk lamp").await?;
    let mut orders = 0;
    for (file, broken) in [("notification/app.py", RAISES), ("search/server.py", HANGS)] {
        let good = shop.edit(file, |text| match broken {
            RAISES => RAISES.to_owned(),
            // It comes up, and hangs in what it is handed.
            hangs => text.replace(TAKES, &format!("{TAKES}{hangs}")),
        })?;
        shop.deploy()?;
        for _ in 0..4 {
            shop.order("lamp", 1).await?;
            orders += 1;
        }
        shop.outbox_empties(orders * 3).await;
        shop.edit(file, |_| good)?;
        shop.deploy()?;
        shop.mails_reach(orders * 2).await;
        shop.search_agrees(1).await?;
    }
    shop.order("lamp", 1).await?;
    shop.server.kill()?;
    shop.database.kill()?;
    shop.database.restart()?;
    shop.server.restart()?;
    shop.mails_reach((orders + 1) * 2).await;
    shop.search_agrees(1).await
}

/// The read model is thrown away and fed from the log again, while orders come: it is what it was.
#[tokio::test]
async fn the_search_is_dropped_and_built_again_to_the_same() -> Result<()> {
    let Some(shop) = Shop::open().await? else {
        return Ok(());
    };
    for (sku, name) in [("lamp", "Desk lamp"), ("chair", "Garden chair")] {
        shop.product(sku, name).await?;
        for quantity in 1..4 {
            shop.order(sku, quantity).await?;
        }
    }
    shop.database
        .psql("UPDATE products SET name = 'Reading lamp' WHERE sku = 'lamp'; DELETE FROM orders WHERE quantity = 3")?;
    shop.search_agrees(1).await?;
    let before = shop.search("").await.context("it answers")?.1;

    let folder = shop.server.data().join("state").join(APP).join("search");
    for file in ["search.db", "search.db-wal", "search.db-shm"] {
        let _ = std::fs::remove_file(folder.join(file));
    }
    let gone = shop.server.gateway().get("/search").await?;
    assert_eq!(
        gone.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        gone.text()
    );
    let key = format!("{APP}/search/catalogue");
    shop.server.json(&["projections", "rebuild", &key])?;
    let after = eventually("the second generation is live", || async {
        shop.search("")
            .await
            .filter(|(generation, _)| *generation == 2)
    })
    .await;
    assert_eq!(after.1, before, "it is what it was");
    shop.server.json(&["projections", "drop", &key, "1"])?;
    shop.order("chair", 1).await?;
    shop.search_agrees(2).await
}
