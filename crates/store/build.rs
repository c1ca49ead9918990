//! Migrations are embedded at compile time; without this a new file would go unseen.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
