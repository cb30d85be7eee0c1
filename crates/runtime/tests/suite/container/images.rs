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

use super::{GRACE, podman::Podman, pool, text};
use crate::stage::Stage;
use registry::{LOGIN, Registry};

/// An engine, and a registry that it knows; `None` where it cannot run, which is said.
async fn start() -> Option<(Podman, Registry, Stage)> {
    let folder = TempDir::new().expect("a folder");
    let registry = Registry::start(folder.path());
    let podman = Podman::start_in(folder).await?;
    let stage = podman.stage();
    Some((podman, registry, stage))
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
fn push(podman: &Podman, registry: &Registry, tag: &str, edition: &str) -> String {
    podman.import_as("test:pushed", &format!("ENV EDITION={edition}"));
    let digest = registry.push(podman, "test:pushed", tag);
    let removed = podman.run(&["rmi", "test:pushed"]);
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
    let Some((podman, registry, stage)) = start().await else {
        return;
    };
    registry.push(&podman, "test:1", "1");
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
    let Some((podman, registry, stage)) = start().await else {
        return;
    };
    set(&stage, LOGIN.1);
    let name = registry.image(":1");
    push(&podman, &registry, "1", "first");
    assert_eq!(edition(&stage, &name, Pull::Missing).await, "first");
    push(&podman, &registry, "1", "second");
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
    let Some((podman, registry, stage)) = start().await else {
        return;
    };
    set(&stage, LOGIN.1);
    let first = push(&podman, &registry, "1", "first");
    let second = push(&podman, &registry, "1", "second");
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
