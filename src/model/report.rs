//! Where the time of a model goes, for people: each node beside the time that was measured and the one it cannot go below.

use std::fmt;
use std::time::Duration;

use super::describe::NodeInfo;
use super::net::Model;
use super::workspace::{Images, Workspace};
use crate::error::{Error, Result};
use crate::ops::Par;
use crate::shape::check_len;

/// A node and its times for one image.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeReport {
    /// What it is.
    pub info: NodeInfo,
    /// What one thread cannot beat by much; none if the node does not run: [`Model::predict`].
    pub predicted: Option<Duration>,
    /// What was measured, 0 if the node does not run: [`Model::profile`].
    pub measured: Duration,
}

/// All nodes of a model and their times. Its text is a line a node, and one for the sum.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// First to last; the first is the image.
    pub nodes: Vec<NodeReport>,
}

impl Model {
    /// [`Model::describe`], [`Model::predict`] and [`Model::profile`] in one. Errors as the last.
    pub fn report<'a>(
        &self,
        images: impl Into<Images<'a>>,
        workspace: &mut Workspace,
        par: Par<'_>,
        runs: usize,
    ) -> Result<Report> {
        let images = images.into();
        let count = images.check(&self.input())?;
        let measured = self.profile(images, workspace, par, runs)?;
        Report::new(self.describe(), &self.predict(count)?, &measured, count)
    }
}

impl Report {
    /// The nodes, what was predicted for one image, and what was measured for `images` images.
    ///
    /// Errors if there are not as many of all, or if there were no images.
    pub fn new(
        nodes: Vec<NodeInfo>,
        predicted: &[Option<Duration>],
        measured: &[Duration],
        images: usize,
    ) -> Result<Self> {
        check_len("predicted", predicted.len(), nodes.len(), "nodes")?;
        check_len("measured", measured.len(), nodes.len(), "nodes")?;
        let count = u32::try_from(images).ok().filter(|&count| count > 0);
        let count = count.ok_or_else(|| {
            let expected = "1 to 2^32 - 1, as were measured";
            Error::argument("images", images, expected)
        })?;
        let times = predicted.iter().zip(measured);
        let nodes = nodes.into_iter().zip(times);
        let nodes = nodes.map(|(info, (&predicted, &measured))| NodeReport {
            info,
            predicted,
            measured: measured / count,
        });
        Ok(Report {
            nodes: nodes.collect(),
        })
    }

    /// What was measured for one image, all nodes together.
    pub fn measured(&self) -> Duration {
        self.nodes.iter().map(|node| node.measured).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| 1e6 * time.as_secs_f64();
        let all = micros(self.measured());
        writeln!(f, "measured us  share  predicted us  node")?;
        for (i, node) in self.nodes.iter().enumerate() {
            let measured = micros(node.measured);
            let share = 100.0 * measured / all.max(1e-6);
            write!(f, "{measured:>11.1}  {share:>4.0}%  ")?;
            match node.predicted {
                Some(time) => write!(f, "{:>12.1}", micros(time))?,
                None => write!(f, "{:>12}", "-")?,
            }
            writeln!(f, "  {i}: {}", node.info)?;
        }
        writeln!(f, "{all:>11.1}  in all, for an image")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::Encoding;
    use crate::model::Mode;
    use crate::model::sample::sample;

    #[test]
    fn a_report_is_a_line_a_node_with_both_times() {
        let model = sample(Encoding::unsigned(2).unwrap());
        let micros = Duration::from_micros;
        let predicted = [None, Some(micros(2)), None, Some(micros(1))];
        let measured = [0, 30, 15, 5].map(micros);
        let report = Report::new(model.describe(), &predicted, &measured, 2).unwrap();
        assert_eq!(report.measured(), micros(25));
        let said = report.to_string();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 6, "{said}");
        assert_eq!(
            lines[1],
            "        0.0     0%             -  0: image -> 5 x 7 x 1 u8 bytes"
        );
        let first = "       15.0    60%           2.0  1: linear of [0], 40 x 35, bipolar x u8 -> ";
        assert!(lines[2].starts_with(first), "{said}");
        assert!(lines[2].contains(", 1400 MACs, "), "{said}");
        assert!(lines[3].starts_with("        7.5    30%             -  2: "));
        assert_eq!(lines[5], "       25.0  in all, for an image");

        let refused = Report::new(model.describe(), &predicted, &measured[1..], 2);
        let said = refused.unwrap_err().to_string();
        assert_eq!(said, "measured is 3 elements long; expected 4 (nodes)");
        assert!(Report::new(model.describe(), &predicted, &measured, 0).is_err());
    }

    #[test]
    fn a_run_reports_what_its_parts_say() {
        let model = sample(Encoding::unsigned(2).unwrap());
        let images = [7u8; 2 * 35];
        let mut workspace = model.workspace(2, 1, Mode::Latency).unwrap();
        let report = model.report(&images[..], &mut workspace, Par::Caller, 3);
        let report = report.unwrap();
        let infos: Vec<NodeInfo> = report.nodes.iter().map(|node| node.info.clone()).collect();
        assert_eq!(infos, model.describe());
        let image = &report.nodes[0];
        assert!(image.predicted.is_none() && image.measured.is_zero());
        let both = |node: &NodeReport| node.predicted.is_some() && !node.measured.is_zero();
        assert!(report.nodes[1..].iter().all(both));
        let none = model.report(&images[..0], &mut workspace, Par::Caller, 3);
        assert!(none.unwrap_err().to_string().starts_with("images is 0"));
    }
}
