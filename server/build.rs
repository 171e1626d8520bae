//! Makes a changed migration a changed program.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
