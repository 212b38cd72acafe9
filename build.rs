//! One word to the linker of libqcore.so.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if os == "linux" || os == "android" {
        // A worker thread of a pool may still be running when a host calls `dlclose`, and the destructors
        // of thread-local values in Rust's own library are registered with addresses inside this one. So
        // the library stays mapped once it is loaded.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
