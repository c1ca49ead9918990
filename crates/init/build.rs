//! Builds the program (`program/`) that this crate carries.
//!
//! It is not a target of Cargo's: it has to be a static executable without any library, whatever the profile, flags
//! and target of the rest, and Cargo cannot build one package's binary into another's library.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Architectures that the program knows the system calls of.
const KNOWN: [&str; 2] = ["x86_64", "aarch64"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=program");
    println!("cargo::rerun-if-changed=src/format.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?).join("init");
    let target = env::var("TARGET")?;
    let known = KNOWN.contains(&env::var("CARGO_CFG_TARGET_ARCH")?.as_str())
        && env::var("CARGO_CFG_TARGET_OS")? == "linux";
    if known {
        compile(&target, &out)
    } else {
        // The library reports that there is none.
        Ok(fs::write(out, [])?)
    }
}

fn compile(target: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut rustc = Command::new(env::var("RUSTC")?);
    rustc
        .args([
            "--edition",
            "2024",
            "--crate-name",
            "init",
            "--crate-type",
            "bin",
        ])
        .args(["--target", target])
        .args([
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ])
        .args(["-C", "relocation-model=static", "-C", "codegen-units=1"])
        .args(["-C", "link-arg=-nostartfiles", "-C", "link-arg=-nostdlib"])
        .args([
            "-C",
            "link-arg=-static",
            "-C",
            "link-arg=-Wl,--build-id=none",
        ])
        .args(["-D", "warnings"])
        .arg("-o")
        .arg(out)
        .arg("program/main.rs");
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    let status = rustc.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the init of containers does not build for {target}: {status}").into())
    }
}
