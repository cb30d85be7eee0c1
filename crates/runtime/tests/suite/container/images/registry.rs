//! A registry of a test's own, on loopback: what is pushed to it are files in a folder, and it is no more than that.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{self, Stdio},
};

use sha2::{Digest, Sha256};

use serde_json::{Value, json};
use testkit::ContainerEngine;

/// Who may pull: a user, and a password.
pub(super) const LOGIN: (&str, &str) = ("robot", "s3cret-word");

/// Gives out files by tag and by digest, only to a user with a password. It says its port.
const REGISTRY: &str = r#"
import base64, http.server, json, os, sys
FOLDER, LOGIN = sys.argv[1], "Basic " + base64.b64encode(sys.argv[2].encode()).decode()

class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, body=b"", kind="application/json"):
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        if self.headers.get("Authorization") != LOGIN:
            return self.send(401)
        if self.path == "/v2/":
            return self.send(200, b"{}")
        _, kind, name = self.path.rsplit("/", 2)
        file = os.path.join(FOLDER, kind, name.removeprefix("sha256:"))
        if not os.path.exists(file):
            return self.send(404)
        body = open(file, "rb").read()
        manifest = kind == "manifests"
        self.send(200, body, json.loads(body)["mediaType"] if manifest else "application/octet-stream")

    do_HEAD = do_GET

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// Ended when it is dropped.
pub(in crate::container) struct Registry {
    process: process::Child,
    port: u16,
    /// What was pushed: manifests by tag and by digest, and what they are of by digest.
    folder: PathBuf,
}

impl Registry {
    /// Known to a Podman of the same `folder` that is started after it.
    pub(in crate::container) fn start(folder: &Path) -> Self {
        let pushed = folder.join("pushed");
        for kind in ["manifests", "blobs"] {
            fs::create_dir_all(pushed.join(kind)).expect("made");
        }
        let mut process = process::Command::new("python3")
            .args(["-c", REGISTRY])
            .arg(&pushed)
            .arg(format!("{}:{}", LOGIN.0, LOGIN.1))
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().expect("is piped"));
        output.read_line(&mut line).expect("says its port");
        let port = line.trim().parse().expect("a port");
        let known = format!("[[registry]]\nlocation = \"127.0.0.1:{port}\"\ninsecure = true\n");
        fs::write(folder.join("registries.conf"), known).expect("written");
        Self {
            process,
            port,
            folder: pushed,
        }
    }

    /// The name of its one image; `which` is `:tag` or `@digest`.
    pub(super) fn image(&self, which: &str) -> String {
        format!("127.0.0.1:{}/shop/box{which}", self.port)
    }

    /// Puts an image there under a tag, which names that one from now on; its digest.
    pub(super) fn push(&self, own: &ContainerEngine, image: &str, tag: &str) -> String {
        let saved = tempfile::TempDir::new().expect("a folder");
        let archive = saved.path().join("image.tar");
        let output = own.run(&["save", "-o", archive.to_str().expect("text"), image]);
        assert!(output.status.success(), "{output:?}");
        let mut tar = process::Command::new("tar");
        tar.arg("-xf").arg(&archive).arg("-C").arg(saved.path());
        assert!(tar.status().expect("tar runs").success());
        let read = |name: &str| fs::read(saved.path().join(name)).expect("is there");
        let all: Value = serde_json::from_slice(&read("manifest.json")).expect("is JSON");
        let blob = |name: &Value, kind: &str| {
            let bytes = read(name.as_str().expect("a name"));
            let digest = self.put("blobs", &bytes);
            let kind = format!("application/vnd.docker.{kind}");
            json!({"mediaType": kind, "size": bytes.len(), "digest": digest})
        };
        let layers = all[0]["Layers"].as_array().expect("a list").iter();
        let layers = layers.map(|name| blob(name, "image.rootfs.diff.tar"));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "layers": layers.collect::<Vec<_>>(),
            "config": blob(&all[0]["Config"], "container.image.v1+json"),
        });
        let manifest = manifest.to_string();
        fs::write(self.folder.join("manifests").join(tag), &manifest).expect("written");
        self.put("manifests", manifest.as_bytes())
    }

    /// Keeps these bytes by their digest.
    fn put(&self, kind: &str, bytes: &[u8]) -> String {
        let digest = hex::encode(Sha256::digest(bytes));
        fs::write(self.folder.join(kind).join(&digest), bytes).expect("written");
        format!("sha256:{digest}")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
