//! The setting of the tests: a Docker engine, an installation of their own, and an image.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveContainerOptionsBuilder};
use futures_util::TryStreamExt;
use tokio::sync::OnceCell;
use trainyard_core::id::InstanceId;
use trainyard_core::render::RenderedCommand;
use trainyard_executor::Blob;
use trainyard_executor::blob::InMemory;
use trainyard_executor::conformance::{Candidate, MissingProgram, Program, shell_program};
use trainyard_executor::docker::{Capabilities, DEFAULT_HOST, Docker, DockerConfig};
use uuid::Uuid;

/// The image that programs run in.
pub(crate) const IMAGE: &str = "trainyard-test/busybox:1";

/// Docker, with an installation of its own.
pub(crate) struct RealDocker(DockerConfig);

pub(crate) fn config() -> DockerConfig {
    let mut config = DockerConfig::new(InstanceId(Uuid::now_v7()));
    config.host = std::env::var("DOCKER_HOST").ok();
    // Its builds share no steps with those of other tests, which remove them.
    config.checkout = Some(PathBuf::from(config.instance.to_string()));
    config
}

pub(crate) fn script(text: &str) -> RenderedCommand {
    RenderedCommand::Script(text.to_owned())
}

impl RealDocker {
    pub(crate) async fn new() -> Self {
        image().await;
        Self(config())
    }

    pub(crate) async fn without_init() -> Self {
        let mut containers = Self::new().await;
        containers.0.init = false;
        containers
    }

    /// With a volume for the init that no other test uses.
    pub(crate) async fn with_init_volume(name: &str) -> Self {
        let mut containers = Self::new().await;
        name.clone_into(&mut containers.0.init_volume);
        containers
    }

    /// With a given network for all stages and builds.
    pub(crate) async fn with_network(network: &str) -> Self {
        let mut containers = Self::new().await;
        containers.0.network = Some(network.to_owned());
        containers
    }

    /// With images from these registries only.
    pub(crate) async fn with_registries(registries: &str) -> Self {
        let mut containers = Self::new().await;
        containers.0.registries = registries.parse().unwrap();
        containers
    }

    /// With BuildKit allowed. With `internal`, builds have no way out.
    pub(crate) async fn with_buildkit(internal: bool) -> Self {
        let mut containers = Self::new().await;
        containers.0.buildkit = true;
        containers.0.internal = internal;
        containers
    }

    /// With a limit for what the steps of a build add to Docker's disk.
    pub(crate) async fn with_build_layers(bytes: u64) -> Self {
        let mut containers = Self::with_buildkit(false).await;
        containers.0.build_layers = Some(bytes);
        containers
    }

    /// For files of a checkout that are run by hand.
    pub(crate) async fn of_checkout(path: &str) -> Self {
        let mut containers = Self::new().await;
        containers.0.checkout = Some(PathBuf::from(path));
        containers
    }

    /// With these capabilities of stages.
    pub(crate) async fn with_capabilities(names: &[&str]) -> Self {
        let mut containers = Self::new().await;
        containers.0.capabilities = Capabilities::new(names).unwrap();
        containers
    }

    pub(crate) async fn with_log_size(bytes: u64) -> Self {
        let mut containers = Self::new().await;
        containers.0.log_size = bytes;
        containers
    }

    pub(crate) async fn remove_by_force(&self, container: &str) {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        client()
            .remove_container(container, Some(options))
            .await
            .unwrap();
    }
}

impl Candidate for RealDocker {
    type Executor = Docker;

    async fn make(&self) -> Docker {
        Docker::connect(self.0.clone()).await.unwrap()
    }

    fn instance(&self) -> InstanceId {
        self.0.instance
    }

    fn image(&self) -> &str {
        IMAGE
    }

    fn program(&self, program: &Program<'_>) -> RenderedCommand {
        shell_program(program)
    }

    fn missing_program(&self) -> MissingProgram {
        if self.0.init {
            MissingProgram::Exit127
        } else {
            MissingProgram::StartFails
        }
    }
}

/// A client of Docker that is not the one under test.
pub(crate) fn client() -> bollard::Docker {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| DEFAULT_HOST.to_owned());
    bollard::Docker::connect_with_host(&host).unwrap()
}

/// Makes the image if Docker does not have it.
async fn image() {
    static MADE: OnceCell<()> = OnceCell::const_new();
    MADE.get_or_init(|| async {
        if client().inspect_image(IMAGE).await.is_ok() {
            return;
        }
        let (name, tag) = IMAGE.split_once(':').unwrap();
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(name)
            .tag(tag)
            .build();
        let root = bollard::body_full(root_file_system().into());
        let made = client().create_image(Some(options), Some(root), None);
        made.try_collect::<Vec<_>>().await.unwrap();
    })
    .await;
}

fn busybox_path() -> PathBuf {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let found = places.into_iter().find(|path| path.is_file());
    found.expect("a static busybox: install the package busybox-static")
}

/// A static busybox, which is any of its applets.
pub(crate) fn busybox() -> Vec<u8> {
    std::fs::read(busybox_path()).unwrap()
}

/// A static busybox with its applets.
fn root_file_system() -> Vec<u8> {
    let path = busybox_path();
    let applets = Command::new(&path).arg("--list").output().unwrap().stdout;
    let mut archive = tar::Builder::new(Vec::new());
    let file = |archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content).unwrap();
    };
    file(&mut archive, "bin/busybox", 0o755, &busybox());
    file(
        &mut archive,
        "etc/passwd",
        0o644,
        b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n",
    );
    file(
        &mut archive,
        "etc/group",
        0o644,
        b"root:x:0:\nuser:x:1000:\n",
    );
    for folder in ["tmp", "root"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if folder == "tmp" { 0o1777 } else { 0o700 });
        header.set_size(0);
        archive
            .append_data(&mut header, folder, std::io::empty())
            .unwrap();
    }
    for applet in String::from_utf8(applets)
        .unwrap()
        .lines()
        .filter(|name| *name != "busybox")
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive
            .append_link(&mut header, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    archive.into_inner().unwrap()
}

/// A plain archive of files, as source trees come.
pub(crate) fn tree(files: &[(&str, &str)]) -> Arc<dyn Blob> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if content.starts_with("#!") {
            0o755
        } else {
            0o644
        });
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    Arc::new(InMemory::from(archive.into_inner().unwrap()))
}
