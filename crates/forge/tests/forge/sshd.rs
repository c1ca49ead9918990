//! A real `sshd` on a free port of this machine, which accepts one key, for the user of the tests.

use std::fs::Permissions;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use trainyard_forge::{Credentials, SshKey};

/// It ends when it is dropped.
pub(crate) struct Sshd {
    process: Child,
    folder: PathBuf,
    user: String,
    port: u16,
}

impl Sshd {
    /// Starts one whose keys are in `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        let folder = folder.join("sshd");
        std::fs::create_dir_all(&folder).unwrap();
        for key in ["host", "another-host", "client", "another-client"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join(key))
                .status()
                .unwrap();
            assert!(made.success());
        }
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap().trim().to_owned();
        if user == "root" {
            // Its package creates it when the service is started, which does not happen here.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = free_port();
        let at = |name: &str| folder.join(name).display().to_string();
        let config = [
            format!("Port {port}"),
            "ListenAddress 127.0.0.1".to_owned(),
            format!("HostKey {}", at("host")),
            format!("AuthorizedKeysFile {}", at("client.pub")),
            "PidFile none".to_owned(),
            "StrictModes no".to_owned(),
            "UsePAM no".to_owned(),
            "PermitRootLogin prohibit-password".to_owned(),
            "PasswordAuthentication no".to_owned(),
            // Programs that a test puts there, and git's.
            format!(
                "SetEnv PATH={}:{}",
                folder.display(),
                std::env::var("PATH").unwrap()
            ),
        ];
        std::fs::write(folder.join("config"), config.join("\n") + "\n").unwrap();
        let process = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(folder.join("config"))
            .stderr(Stdio::from(
                std::fs::File::create(folder.join("log")).unwrap(),
            ))
            .spawn()
            .expect("sshd is installed by deploy/setup/install.sh");
        let sshd = Self {
            process,
            folder,
            user,
            port,
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", sshd.log());
            std::thread::yield_now();
        }
        sshd
    }

    pub(crate) fn url(&self, path: &Path) -> String {
        format!(
            "ssh://{}@127.0.0.1:{}{}",
            self.user,
            self.port,
            path.display()
        )
    }

    /// The key of this name, for a host with that key.
    pub(crate) fn key(&self, client: &str, host: &str) -> Credentials {
        let read = |name: String| std::fs::read_to_string(self.folder.join(name)).unwrap();
        let host = read(format!("{host}.pub"));
        Credentials::SshKey(SshKey {
            key: SecretString::from(read(client.to_owned())),
            known_hosts: format!("[127.0.0.1]:{} {host}", self.port),
        })
    }

    /// Has the host answer to a command with the output of this script.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
