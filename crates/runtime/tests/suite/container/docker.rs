//! What is asked of Podman is asked of Docker.

use tempfile::TempDir;
use testkit::{ContainerEngine, EngineKind};

use super::{
    images::{self, Registry},
    load, own,
};
use crate::support::eventually;

/// Asks for one thing, and waits until the next can be asked for.
async fn ask(own: &ContainerEngine, scenario: impl AsyncFnOnce(&ContainerEngine)) {
    scenario(own).await;
    eventually("nothing is left", || own.containers().is_empty()).await;
}

/// Asks for one thing with a registry of its own, because what was pulled from another is there.
async fn pull(own: &ContainerEngine, scenario: impl AsyncFnOnce(&ContainerEngine, &Registry)) {
    let folder = TempDir::new().expect("a folder");
    scenario(own, &Registry::start(folder.path())).await;
}

#[tokio::test]
async fn containers_of_docker_are_instances_as_those_of_podman_are() {
    let Some(own) = own::start(EngineKind::Docker).await else {
        return;
    };
    ask(&own, super::facts).await;
    ask(&own, super::contract).await;
    ask(&own, super::users).await;
    ask(&own, super::volumes).await;
    ask(&own, super::memory).await;
    ask(&own, super::cpus).await;
    ask(&own, super::no_program).await;
    ask(&own, super::sweep).await;
    ask(&own, super::ports).await;
    ask(&own, load::function).await;
    ask(&own, load::growth).await;
    ask(&own, load::drain).await;
}

#[tokio::test]
async fn docker_pulls_by_tag_digest_and_login_as_podman_does() {
    let Some(own) = own::start(EngineKind::Docker).await else {
        return;
    };
    pull(&own, images::login).await;
    pull(&own, images::moved).await;
    pull(&own, images::digests).await;
    pull(&own, images::latest).await;
}
