//! Feeds of databases in temporary places, and what all of them must do.

use connect::{Address, Fate, Feed, Item, Options, Settled};

pub(crate) fn options(address: Address) -> Options {
    Options {
        clock: model::Clock::system(),
        address,
        what: connect::What::Outbox,
        table: "tangelo_outbox".to_owned(),
        keep: false,
        source: "/shop/orders".to_owned(),
        row_bytes: 64 << 10,
        batch_bytes: 256 << 10,
        batch_rows: 100,
    }
}

/// All of `items` as sent.
pub(crate) fn sent(items: &[Item]) -> Vec<Settled> {
    let one = |item: &Item| Settled {
        place: item.place,
        fate: Fate::Sent,
    };
    items.iter().map(one).collect()
}

/// The ids of the events of `items`.
pub(crate) fn ids(items: &[Item]) -> Vec<&str> {
    let events = items.iter().filter_map(|item| item.event.as_ref().ok());
    events.map(|relayed| relayed.event.id.as_str()).collect()
}

/// Takes and settles until nothing is left; the ids in their order.
pub(crate) async fn drain(feed: &mut Feed) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let items = feed.next().await.expect("it works");
        if items.is_empty() {
            return all;
        }
        all.extend(ids(&items).into_iter().map(str::to_owned));
        feed.settle(sent(&items)).await.expect("it works");
    }
}

/// Holds that the rows that are told of in words of SQL that both databases have come as they should: refused ones with
/// their reasons, the rest once. `run` runs statements.
pub(crate) async fn rows_come_once_and_bad_ones_are_set_aside(
    address: Address,
    mut run: impl FnMut(&str),
) {
    run("INSERT INTO tangelo_outbox (id, type, subject, data) VALUES
           ('1', 'order.created', 'o-1', '{\"total\": 1}'), ('2', '', 'o-1', '{}'), ('3', 'order.paid', 'o-1', '[1]')");
    run(
        "INSERT INTO tangelo_outbox (id, type, subject, datacontenttype, traceparent) VALUES
           ('4', 'order.created', 'o-2', 'text/plain', 'no trace')",
    );
    let large = format!(
        "INSERT INTO tangelo_outbox (id, type, subject, data) VALUES ('5', 'order.created', 'o-3', '\"{}\"')",
        "x".repeat(70_000)
    );
    run(&large);
    let mut feed = Feed::open(options(address.clone())).await.expect("opens");
    let backlog = feed.backlog().await.expect("counts");
    assert_eq!((backlog.waiting, backlog.refused), (5, 0));
    assert!(backlog.oldest.is_some());
    let items = feed.next().await.expect("works");
    assert_eq!(ids(&items), ["1", "3"]);
    let why = |place: usize| items[place].event.clone().expect_err("is none");
    assert!(why(1).contains("`type` is required"), "{}", why(1));
    assert!(why(3).contains("`traceparent`"), "{}", why(3));
    assert!(why(4).contains("an event has at most 65536"), "{}", why(4));
    let event = &items[0].event.as_ref().expect("is one").event;
    assert_eq!(
        (event.source.as_str(), event.kind.as_str()),
        ("/shop/orders", "order.created")
    );
    assert!(event.time.is_some());
    // What is not settled comes again.
    let again = feed.next().await.expect("works");
    assert_eq!(again, items);
    let settled = items.iter().map(|item| Settled {
        place: item.place,
        fate: item
            .event
            .as_ref()
            .map_or_else(|why| Fate::Refused(why.clone()), |_| Fate::Sent),
    });
    feed.settle(settled.collect()).await.expect("works");
    assert_eq!(feed.next().await.expect("works"), []);
    let backlog = feed.backlog().await.expect("counts");
    assert_eq!(
        (backlog.waiting, backlog.refused, backlog.oldest),
        (0, 3, None)
    );
    drop(feed);
    let refusals = connect::Refusals {
        address: address.clone(),
        table: "tangelo_outbox".to_owned(),
    };
    let listed = refusals.list(10).await.expect("lists");
    let shown: Vec<_> = listed
        .iter()
        .map(|row| (row.id.as_str(), row.key.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [("2", Some("o-1")), ("4", Some("o-2")), ("5", Some("o-3"))]
    );
    assert!(listed[0].reason.contains("`type` is required"));
    run("UPDATE tangelo_outbox SET type = 'order.late' WHERE id = '2'");
    assert_eq!(
        refusals
            .retry(Some(vec![listed[0].position]))
            .await
            .expect("works"),
        1
    );
    assert_eq!(refusals.discard(None).await.expect("works"), 2);
    assert_eq!(refusals.list(10).await.expect("lists"), []);
    let mut feed = reopened(address).await;
    assert_eq!(drain(&mut feed).await, ["2"]);
}

/// A feed after the last one was dropped: a server may take a moment to see that it is gone.
pub(crate) async fn reopened(address: Address) -> Feed {
    testkit::eventually("the lock of the feed before is free", || async {
        Feed::open(options(address.clone())).await.ok()
    })
    .await
}

/// Holds that one relay at a time has an outbox.
pub(crate) async fn the_second_is_refused(address: Address) {
    let first = Feed::open(options(address.clone())).await.expect("opens");
    let second = Feed::open(options(address.clone())).await;
    let Err(error) = second else {
        panic!("two relays have one outbox")
    };
    assert_eq!(error.code(), model::code::RELAY_HELD);
    drop(first);
    reopened(address).await;
}
