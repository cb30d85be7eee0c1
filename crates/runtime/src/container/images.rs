//! Images: found on the machine, or pulled, and whether that could be.

use std::time::Duration;

use bollard::{
    Docker, auth::DockerCredentials, errors::Error as EngineError,
    query_parameters::CreateImageOptionsBuilder, service::ImageInspect,
};
use futures_util::StreamExt;
use model::{Error, app::Pull, code};

use super::{
    Engine, Login, is_missing,
    registry::{self, is_name_only},
    running::told,
};

/// How long an engine may take to find that nobody is where it was sent.
const ASKED: Duration = Duration::from_secs(20);

/// How long an image may take to be pulled.
const PULL: Duration = Duration::from_secs(600);

impl Engine {
    /// Whether the engine could pull an image at all, as far as that shows without a registry: it is asked for one from a port of
    /// this machine where nobody is, and gets as far as knocking there. `Err`: what stops it before that.
    ///
    /// # Errors
    /// In its own words: a missing policy of signatures, registries that are blocked.
    pub async fn can_pull(&self) -> Result<(), String> {
        let found = self.connect().await.map_err(|error| error.message)?;
        // The port of discarding: a server there would speak no HTTP.
        let nowhere = "127.0.0.1:9/tangelo/none:none";
        let options = CreateImageOptionsBuilder::new().from_image(nowhere).build();
        let mut steps = found.docker.create_image(Some(options), None, None);
        let asked = async {
            while let Some(step) = steps.next().await {
                match step {
                    Ok(step) => {
                        if let Some(detail) = step.error_detail {
                            return detail.message.unwrap_or_default();
                        }
                    }
                    Err(error) => return told(&error),
                }
            }
            String::new()
        };
        let said = tokio::time::timeout(ASKED, asked).await;
        let said = said.map_err(|_| "it did not answer within 20s".to_owned())?;
        match reached_the_network(&said) {
            true => Ok(()),
            false => Err(said),
        }
    }

    /// The id of an image, pulled first where `pull` asks for that: what a tag names now. Pulled as `own`, else as the files of
    /// logins say; to read these blocks for a moment.
    pub(crate) async fn image(
        &self,
        name: &str,
        pull: Pull,
        own: Option<Login>,
    ) -> Result<String, Error> {
        let found = self.connect().await?;
        if pull != Pull::Always {
            match found.docker.inspect_image(name).await {
                Ok(image) => return id_of(image),
                Err(error) if !is_missing(&error) => {
                    return Err(unusable(name, "cannot be looked up", &error));
                }
                Err(_) if pull == Pull::Never => {
                    let message =
                        format!("the image `{name}` is not on this machine, and `pull` is `never`");
                    return Err(Error::new(code::START_FAILED, message));
                }
                Err(_) => {}
            }
        }
        let login = own.or_else(|| registry::login(name, &self.0.logins));
        pull_image(&found.docker, name, login).await?;
        let image = found.docker.inspect_image(name).await;
        id_of(image.map_err(|error| unusable(name, "was pulled and is not there", &error))?)
    }
}

/// Whether an engine that was asked for an image from a port where nobody is was stopped by that and by nothing before it.
fn reached_the_network(said: &str) -> bool {
    ["connection refused", "dial tcp", "connect: "]
        .iter()
        .any(|words| said.contains(words))
}

async fn pull_image(docker: &Docker, name: &str, login: Option<Login>) -> Result<(), Error> {
    let who = match &login {
        Some(login) => format!("as `{}`", login.user),
        None => "without a login".to_owned(),
    };
    let credentials = login.map(|login| DockerCredentials {
        serveraddress: Some(login.address()),
        username: Some(login.user),
        password: Some(login.password),
        ..DockerCredentials::default()
    });
    let mut options = CreateImageOptionsBuilder::new().from_image(name);
    if is_name_only(name) {
        // Docker would pull all of its tags.
        options = options.tag("latest");
    }
    let mut steps = docker.create_image(Some(options.build()), None, credentials);
    let pulled = async {
        while let Some(step) = steps.next().await {
            // Some engines answer well first, and tell a step that failed.
            if let Some(detail) = step?.error_detail {
                let words = detail.message;
                return Ok(words.or_else(|| Some("the engine does not say why".to_owned())));
            }
        }
        Ok(None)
    };
    let what = format!("cannot be pulled {who}");
    match tokio::time::timeout(PULL, pulled).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(words))) => {
            let message = format!("the image `{name}` {what}: {words}");
            Err(Error::new(code::START_FAILED, message))
        }
        Ok(Err::<Option<String>, EngineError>(error)) => Err(unusable(name, &what, &error)),
        Err(_) => {
            let message = format!("the image `{name}` was not pulled in ten minutes");
            Err(Error::new(code::START_FAILED, message))
        }
    }
}

fn id_of(image: ImageInspect) -> Result<String, Error> {
    let id = image.id;
    id.ok_or_else(|| Error::internal("an image without id"))
}

fn unusable(name: &str, what: &str, error: &EngineError) -> Error {
    let words = told(error);
    let message = format!("the image `{name}` {what}: {words}");
    Error::new(code::START_FAILED, message).context(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knocked_could_pull_and_who_is_stopped_before_could_not() {
        let refused = r#"initializing source docker://127.0.0.1:9/tangelo/none:none: pinging container registry 127.0.0.1:9: Get "https://127.0.0.1:9/v2/": dial tcp 127.0.0.1:9: connect: connection refused"#;
        assert!(reached_the_network(refused));
        let policy = "open /etc/containers/policy.json: no such file or directory";
        assert!(!reached_the_network(policy));
    }
}
