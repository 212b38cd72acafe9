//! A look at a batch's gradients, coarse and true, that changes nothing.

use super::Net;
use crate::error::Result;
use crate::ops::Par;

impl Net {
    /// The gradients of the loss of a batch by the weights of each layer, in order: the coarse ones, and those that the
    /// smooth functions of the coarse gradients give ([`Net::use_smooth`]), which are true gradients by the weights that the
    /// forward pass sees.
    ///
    /// Parameters and running averages are afterwards what they were; the gradients are not. None, if a loss is not
    /// finite. Errors as [`Net::step`] does.
    pub fn coarse_and_true(
        &mut self,
        images: &[u8],
        labels: &[u8],
        par: Par<'_>,
    ) -> Result<Vec<[Vec<f32>; 2]>> {
        let state = self.state();
        let kept: Vec<Vec<f32>> = state.into_iter().map(|(_, v)| v.to_vec()).collect();
        let before = self.smooth;
        let mut look = |smooth: bool| -> Result<Vec<Vec<f32>>> {
            self.smooth = smooth;
            let score = self.step(images, labels, par)?;
            let weights = self.weights();
            let finite = weights.into_iter().filter(|_| score.loss.is_finite());
            Ok(finite.map(|w| w.d_weights.clone()).collect())
        };
        let (coarse, smooth) = (look(false), look(true));
        self.smooth = before;
        for ((_, values), kept) in self.state().into_iter().zip(&kept) {
            values.copy_from_slice(kept);
        }
        let pairs = coarse?.into_iter().zip(smooth?);
        Ok(pairs.map(|(c, t)| [c, t]).collect())
    }
}
