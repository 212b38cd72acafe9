//! Real C and C++ programs against `include/qcore.h`, `libqcore.so` and `libqcore.a`.

mod header;
mod models;
mod programs;
mod readme;
mod residual_net;
mod symbols;
mod toolchain;
