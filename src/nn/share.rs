//! Work cut into pieces, over threads where it is worth waking them.

use crate::ops::Par;

/// Calls `work` with each of `pieces`, which cost about so many vector instructions in all; few of them stay on the caller.
pub(super) fn share<P: Send>(
    cost: u64,
    par: Par<'_>,
    pieces: impl Iterator<Item = P> + Send,
    work: &(impl Fn(P) + Sync),
) {
    match par.pieces(cost) {
        1 => pieces.for_each(work),
        _ => par.share(pieces, work),
    }
}
