//! Where a kernel is cut into functions.
//!
//! A kernel is generic, and all of it is inlined into the function of an ISA's table that carries the features. Left
//! so, the sizes of tiles, widths of fields and signs of one kernel are one function, and compilers need more than twice
//! the time for twice the code. A piece is compiled by itself, and once where several cases come to the same.

/// A part of a kernel, long enough to be called: panels, not tiles.
pub(super) trait Piece {
    /// Does it. `#[inline(always)]`, as all that it calls.
    ///
    /// # Safety
    /// The caller is compiled with the features of the ISA; the rest is what the kernel asks of its callers.
    unsafe fn run(self);
}

/// The features of an ISA, by a function that is compiled with them. Never inlined, or the pieces would be one again.
pub(super) trait Features {
    /// Runs `piece` there.
    ///
    /// # Safety
    /// The machine has the features; the rest as [`Piece::run`].
    unsafe fn call<P: Piece>(piece: P);
}

/// Gives a type its [`Features`]; none where none are named.
macro_rules! features {
    ($name:ty $(, $features:literal)?) => {
        impl crate::kernels::piece::Features for $name {
            $(#[target_feature(enable = $features)])?
            #[inline(never)]
            unsafe fn call<P: crate::kernels::piece::Piece>(piece: P) {
                // SAFETY: this function carries the features; the rest is the contract.
                unsafe { piece.run() }
            }
        }
    };
}
pub(super) use features;
