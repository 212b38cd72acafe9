//! What a run tells of its quantized weights, if its recipe has [`Recipe::diagnostics`](crate::train::Recipe::diagnostics).

use super::Run;
use crate::error::{Error, Result};
use crate::train::diagnostics::{LayerReport, NetReport};

impl Run {
    /// How the quantized weights behaved in the last epoch, layer by layer; empty without diagnostics, and in the float phase.
    pub fn layer_reports(&self) -> &[LayerReport] {
        &self.layer_reports
    }

    /// How the quantized net as a whole behaved in the last epoch; `None` without diagnostics, and in the float phase.
    pub fn net_report(&self) -> Option<&NetReport> {
        self.net_report.as_ref()
    }

    /// How often the last epoch visited a given vector of codes: the share of its steps, 0 to 1, that began with `codes`, the
    /// integers of the weights ([`Projected::integers`](crate::nn::projected::Projected::integers)) of the layer at the path
    /// `layer`, which a [`LayerReport`] has; `None` takes those of all quantized layers, one after the other.
    ///
    /// Where weights do not settle, the best codes may be among those that come back: Recurrence of Optimum, arXiv 2012.05529.
    /// Codes are compared by 64 bits that are made of them, so others are taken for these once in 2^64 or so. Errors without
    /// diagnostics or before the end of a quantized epoch of this run, if no quantized weights are at that path, or if there
    /// are more or fewer codes than weights.
    pub fn visit_frequency(&self, layer: Option<&str>, codes: &[i32]) -> Result<f64> {
        let watch = self.watch.as_ref().ok_or_else(|| {
            let expected = "a recipe with diagnostics, in its quantized phase";
            Error::argument("the run", "without diagnostics", expected)
        })?;
        watch.visit_frequency(layer, codes)
    }
}
