//! Says what the program is built for: an update for another machine is refused before its first byte.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=LINKSPAN_TARGET={target}");
}
