//! Migrations are embedded at compile time; without this, Cargo would not notice a new file.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
