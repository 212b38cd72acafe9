//! C: what a trainer is handed, images and labels, and where scores go.

use super::pointer::{Out, slice};
use super::status::Answer;
use crate::nn::loss::Score;
use crate::shape::elements;
use crate::train::run::Run;

/// `count` images of the run, and their labels, as the caller has them.
///
/// # Safety
///
/// The caller's promises about the pointers.
pub(super) unsafe fn batch<'a>(
    run: &Run,
    images: *const u8,
    labels: *const u8,
    count: usize,
) -> Answer<(&'a [u8], &'a [u8])> {
    // SAFETY: the contract is this function's.
    unsafe { Ok((pixels(run, images, count)?, slice("labels", labels, count)?)) }
}

/// `count` images of the run.
///
/// # Safety
///
/// The caller's promises about the pointer.
pub(super) unsafe fn pixels<'a>(run: &Run, images: *const u8, count: usize) -> Answer<&'a [u8]> {
    let [height, width, channels] = run.net().design().input;
    let len = elements("images", &[count, height, width, channels])?;
    // SAFETY: the contract is this function's.
    unsafe { slice("images", images, len) }
}

/// Where a number goes that not every caller asks for.
///
/// # Safety
///
/// `ptr` is NULL or has room for a `T` that nobody else touches while the result lives.
unsafe fn if_asked<T>(name: &'static str, ptr: *mut T) -> Answer<Option<Out<T>>> {
    match ptr.is_null() {
        true => Ok(None),
        // SAFETY: the contract is this function's.
        false => unsafe { Out::new(name, ptr) }.map(Some),
    }
}

/// Where a score goes, as far as it is asked for.
pub(super) struct ScoreOut {
    loss: Option<Out<f32>>,
    correct: Option<Out<usize>>,
}

impl ScoreOut {
    /// # Safety
    ///
    /// As for [`if_asked`], of both pointers.
    pub(super) unsafe fn new(loss: *mut f32, correct: *mut usize) -> Answer<Self> {
        // SAFETY: the contract is this function's.
        unsafe {
            Ok(ScoreOut {
                loss: if_asked("loss", loss)?,
                correct: if_asked("correct", correct)?,
            })
        }
    }

    pub(super) fn write(self, score: &Score) {
        if let Some(loss) = self.loss {
            loss.write(score.loss);
        }
        if let Some(correct) = self.correct {
            correct.write(score.correct);
        }
    }
}
