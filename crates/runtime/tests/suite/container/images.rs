//! Where a container's image comes from: a registry of the test's own, by tag and by digest.

mod registry;

use std::{sync::Arc, time::Duration};

use model::{
    Run,
    app::{Pull, RegistryLogin},
    code,
};
use runtime::process::Pool;
use tempfile::TempDir;
use testkit::{ContainerEngine, EngineKind};

use super::{GRACE, own, pool, text};
use crate::stage::Stage;
use registry::LOGIN;
pub(super) use registry::Registry;

/// Asks a Podman of a test's own, and a registry that it knows.
async fn on_podman(scenario: impl AsyncFnOnce(&ContainerEngine, &Registry)) {
    let folder = TempDir::new().expect("a folder");
    let registry = Registry::start(folder.path());
    if let Some(own) = own::start_in(EngineKind::Podman, folder).await {
        scenario(&own, &registry).await;
    }
}

fn set(stage: &Stage, password: &str) {
    let mut secrets = stage.listener.secrets.lock();
    secrets.insert("REGISTRY_PASSWORD".to_owned(), password.to_owned());
}

fn pool_of(stage: &Stage, name: &str, when: Pull) -> Arc<Pool> {
    pool(stage, |spec| {
        if let Run::Container {
            image, pull, login, ..
        } = &mut spec.workload.run
        {
            name.clone_into(image);
            *pull = when;
            *login = Some(RegistryLogin {
                user: LOGIN.0.to_owned(),
                password: "REGISTRY_PASSWORD".to_owned(),
            });
        }
    })
}

/// Pushes an image that says this of itself, and forgets it here; its digest.
fn push(own: &ContainerEngine, registry: &Registry, tag: &str, edition: &str) -> String {
    own.import("test:pushed", &format!("ENV EDITION={edition}"));
    let digest = registry.push(own, "test:pushed", tag);
    let removed = own.run(&["rmi", "test:pushed"]);
    assert!(removed.status.success(), "{removed:?}");
    digest
}

/// What the image says of itself that a new pool runs.
async fn edition(stage: &Stage, name: &str, when: Pull) -> String {
    let pool = pool_of(stage, name, when);
    pool.warm().await.expect("it starts");
    let env = text(stage, &pool, "/cgi-bin/env").await;
    pool.drain(GRACE).await;
    let said = env.lines().find_map(|line| line.strip_prefix("EDITION="));
    said.expect("it says one").to_owned()
}

#[tokio::test]
async fn an_image_is_pulled_with_a_secret_that_is_said_nowhere() {
    on_podman(login).await;
}

pub(super) async fn login(own: &ContainerEngine, registry: &Registry) {
    let stage = own::stage(own);
    registry.push(own, "test:1", "1");
    let name = registry.image(":1");
    let refused = async |expected: &str| {
        let pool = pool_of(&stage, &name, Pull::Missing);
        let error = pool.warm().await.expect_err("is refused");
        assert_eq!(error.code, code::START_FAILED);
        let told = format!("{} {:?}", error.message, error.context);
        assert!(told.contains(expected) && !told.contains("-word"), "{told}");
        pool.drain(Duration::ZERO).await;
    };
    refused("REGISTRY_PASSWORD is not among this server's secrets").await;
    set(&stage, "wrong-word");
    refused("cannot be pulled as `robot`").await;
    set(&stage, LOGIN.1);
    let pool = pool_of(&stage, &name, Pull::Missing);
    pool.warm().await.expect("it is pulled and starts");
    let env = text(&stage, &pool, "/cgi-bin/env").await;
    assert!(
        !env.contains("s3cret-word"),
        "it is no variable of the instance"
    );
    pool.drain(GRACE).await;
    assert!(!stage.listener.heard("-word"), "nor in what is said");
}

#[tokio::test]
async fn a_tag_that_moved_is_followed_where_pull_is_always() {
    on_podman(moved).await;
}

pub(super) async fn moved(own: &ContainerEngine, registry: &Registry) {
    let stage = own::stage(own);
    set(&stage, LOGIN.1);
    let name = registry.image(":1");
    push(own, registry, "1", "first");
    assert_eq!(edition(&stage, &name, Pull::Missing).await, "first");
    push(own, registry, "1", "second");
    for (when, expected) in [
        (Pull::Missing, "first"),
        (Pull::Never, "first"),
        (Pull::Always, "second"),
        // It is on the machine now.
        (Pull::Missing, "second"),
    ] {
        assert_eq!(edition(&stage, &name, when).await, expected, "{when:?}");
    }
}

#[tokio::test]
async fn a_digest_names_the_same_image_after_its_tag_moved() {
    on_podman(digests).await;
}

pub(super) async fn digests(own: &ContainerEngine, registry: &Registry) {
    let stage = own::stage(own);
    set(&stage, LOGIN.1);
    let first = push(own, registry, "1", "first");
    let second = push(own, registry, "1", "second");
    assert_ne!(first, second);
    let (tag, digest) = (registry.image(":1"), registry.image(&format!("@{first}")));
    for (name, when, expected) in [
        (&digest, Pull::Missing, "first"),
        (&tag, Pull::Missing, "second"),
        (&digest, Pull::Never, "first"),
        (&digest, Pull::Always, "first"),
    ] {
        let said = edition(&stage, name, when).await;
        assert_eq!(said, expected, "{name}, {when:?}");
    }
}

#[tokio::test]
async fn a_name_without_a_tag_is_the_latest_and_no_other_tag_comes_with_it() {
    on_podman(latest).await;
}

pub(super) async fn latest(own: &ContainerEngine, registry: &Registry) {
    let stage = own::stage(own);
    set(&stage, LOGIN.1);
    push(own, registry, "latest", "first");
    push(own, registry, "1", "second");
    let name = registry.image("");
    assert_eq!(edition(&stage, &name, Pull::Missing).await, "first");
    let there = own.run(&["images", "--format", "{{.Tag}}", &name]);
    assert_eq!(String::from_utf8_lossy(&there.stdout), "latest\n");
}
