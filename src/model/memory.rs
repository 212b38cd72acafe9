//! Where values lie while a model runs: planned once, by who reads them last.
//!
//! A value needs memory from the node that makes it to the last node that reads it; an output to the end. Nodes are
//! placed in order, each in the smallest hole that takes it (best fit), or else at the end. All sizes are of one
//! image: a run over M images multiplies every place by M.

use super::node::{Node, Op};
use super::value::{Kind, Value, ValueType};

/// Words of a cache line, which places are multiples of.
pub(super) const LINE: usize = 16;

/// Words of the place of a value, for one image.
pub(super) fn place(made: &ValueType) -> usize {
    made.words(1).next_multiple_of(LINE)
}

/// Where a value lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spot {
    /// It is the image, which the caller holds.
    Image,
    /// From this word on, times the number of images.
    At(usize),
    /// Nobody needs it.
    Nowhere,
}

/// The plan of a model's memory.
#[derive(Debug)]
pub(super) struct Memory {
    /// A spot for each value.
    pub(super) spots: Vec<Spot>,
    /// Words in all, for one image.
    pub(super) words: usize,
}

/// A part of memory, `start` to `end`.
#[derive(Clone, Copy, Debug)]
struct Hole {
    start: usize,
    end: usize,
}

/// Holes in order, and the end of what was ever used.
#[derive(Default)]
struct Arena {
    holes: Vec<Hole>,
    end: usize,
}

impl Arena {
    /// Takes `size` words; none if there is no such number of words in all.
    fn take(&mut self, size: usize) -> Option<usize> {
        let fits = |hole: &Hole| hole.end - hole.start >= size;
        let best = (0..self.holes.len())
            .filter(|&i| fits(&self.holes[i]))
            .min_by_key(|&i| self.holes[i].end - self.holes[i].start);
        if let Some(best) = best {
            let start = self.holes[best].start;
            self.holes[best].start += size;
            self.holes.retain(|hole| hole.start < hole.end);
            return Some(start);
        }
        // A hole at the end grows.
        let last = self.holes.pop_if(|hole| hole.end == self.end);
        let start = last.map_or(self.end, |hole| hole.start);
        self.end = start.checked_add(size)?;
        Some(start)
    }

    /// Gives `size` words back.
    fn give(&mut self, start: usize, size: usize) {
        let at = self.holes.partition_point(|hole| hole.start < start);
        let end = start + size;
        self.holes.insert(at, Hole { start, end });
        // With its neighbours.
        if self.holes.get(at + 1).is_some_and(|next| next.start == end) {
            self.holes[at].end = self.holes.remove(at + 1).end;
        }
        if at > 0 && self.holes[at - 1].end == start {
            self.holes[at - 1].end = self.holes.remove(at).end;
        }
    }
}

impl Memory {
    /// The plan for `nodes` of which `outputs` leave; none if values take more words than there are numbers for.
    pub(super) fn plan(nodes: &[Node], outputs: &[Value]) -> Option<Self> {
        let roots = roots(nodes);
        let last = last_readers(&super::fusion::reads(nodes, outputs), outputs, &roots);
        let size = |value: usize| place(&nodes[value].made);
        let mut spots = vec![Spot::Nowhere; nodes.len()];
        let mut arena = Arena::default();
        let mut end_at: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            let Some(last) = last[i] else { continue };
            spots[i] = match &node.op {
                Op::Image => Spot::Image,
                _ if roots[i] != i => spots[roots[i]],
                _ => {
                    let start = arena.take(size(i))?;
                    if let Some(ends) = end_at.get_mut(last) {
                        ends.push(i);
                    }
                    Spot::At(start)
                }
            };
            for &ended in &end_at[i] {
                if let Spot::At(start) = spots[ended] {
                    arena.give(start, size(ended));
                }
            }
        }
        Some(Memory {
            spots,
            words: arena.end,
        })
    }
}

/// The value whose memory each value is: its own, unless it is another one's elements as they lie.
fn roots(nodes: &[Node]) -> Vec<usize> {
    let mut roots = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let root = match &node.op {
            Op::Flatten if is_flat(&nodes[node.reads[0].index()].made) => {
                roots[node.reads[0].index()]
            }
            _ => i,
        };
        roots.push(root);
    }
    roots
}

/// Whether an image lies in memory as its elements in one pixel would.
pub(super) fn is_flat(image: &ValueType) -> bool {
    match image.kind {
        Kind::Planes(e) => {
            image.pixels() == 1 || e.planes() == 1 && image.channels.is_multiple_of(32)
        }
        _ => true,
    }
}

/// The last node that reads each value or one that shares its memory, the number of nodes for those that leave, and
/// none for values that no output needs.
fn last_readers(reads: &[Vec<Value>], outputs: &[Value], roots: &[usize]) -> Vec<Option<usize>> {
    let mut last: Vec<Option<usize>> = vec![None; reads.len()];
    for output in outputs {
        last[output.index()] = Some(reads.len());
        last[roots[output.index()]] = Some(reads.len());
    }
    for i in (0..reads.len()).rev() {
        if last[i].is_none() {
            continue;
        }
        for read in &reads[i] {
            for value in [read.index(), roots[read.index()]] {
                last[value] = last[value].max(Some(i));
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that reads `reads` and makes `words` words.
    fn node(reads: &[usize], words: usize) -> Node {
        let op = if reads.is_empty() {
            Op::Image
        } else {
            Op::Concat
        };
        Node {
            name: String::new(),
            op,
            reads: reads.iter().map(|&i| Value(i)).collect(),
            made: ValueType::floats(1, 1, words),
        }
    }

    #[test]
    fn a_long_chain_needs_the_memory_of_two_values() {
        let mut nodes = vec![node(&[], 5)];
        nodes.extend((0..50).map(|i| node(&[i], 160)));
        let memory = Memory::plan(&nodes, &[Value(50)]).unwrap();
        assert_eq!(memory.words, 320);
        assert_eq!(memory.spots[0], Spot::Image);
        assert_ne!(memory.spots[49], memory.spots[50]);
    }

    #[test]
    fn a_residual_lives_until_it_is_read_and_holes_are_filled_by_the_best() {
        // 1 is read by 4; 2 and 3 by the next each; 5 fits where 2 was.
        let nodes = [
            node(&[], 1),
            node(&[0], 160),
            node(&[1], 320),
            node(&[2], 160),
            node(&[3, 1], 160),
            node(&[4], 320),
        ];
        let memory = Memory::plan(&nodes, &[Value(5)]).unwrap();
        let at = |i: usize| match memory.spots[i] {
            Spot::At(at) => at,
            other => panic!("{other:?}"),
        };
        assert_eq!((at(1), at(2), at(3)), (0, 160, 480));
        assert_eq!(at(4), 160);
        assert_eq!(memory.words, 640);
    }

    #[test]
    fn what_no_output_needs_has_no_place() {
        let nodes = [
            node(&[], 1),
            node(&[0], 16),
            node(&[1], 1600),
            node(&[1], 16),
        ];
        let memory = Memory::plan(&nodes, &[Value(3), Value(1)]).unwrap();
        assert_eq!(memory.spots[2], Spot::Nowhere);
        assert_eq!(memory.words, 32);
    }

    #[test]
    fn values_beyond_all_numbers_are_refused() {
        let most = isize::MAX as usize / 4;
        let nodes: Vec<Node> = (0..20).map(|i| node(&vec![0; i], most)).collect();
        let last = [
            Value(8),
            Value(9),
            Value(10),
            Value(11),
            Value(12),
            Value(13),
        ];
        assert!(Memory::plan(&nodes, &last).is_some());
        let all: Vec<Value> = (1..20).map(Value).collect();
        assert!(Memory::plan(&nodes, &all).is_none());
    }

    /// Random graphs: no two values that are needed at the same time overlap.
    #[test]
    fn values_that_live_together_lie_apart() {
        let mut state = 7u64;
        let mut next = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        for _ in 0..200 {
            let count = 2 + next(20);
            let mut nodes = vec![node(&[], 1)];
            for i in 1..count {
                let reads: Vec<usize> = (0..1 + next(2)).map(|_| next(i)).collect();
                nodes.push(node(&reads, 1 + next(200)));
            }
            let outputs = [Value(count - 1), Value(next(count))];
            let memory = Memory::plan(&nodes, &outputs).unwrap();
            let reads: Vec<Vec<Value>> = nodes.iter().map(|node| node.reads.clone()).collect();
            let last = last_readers(&reads, &outputs, &roots(&nodes));
            let range = |i: usize| match memory.spots[i] {
                Spot::At(at) => Some(at..at + nodes[i].made.words(1)),
                _ => None,
            };
            for (i, last) in last.iter().enumerate().skip(1) {
                for j in i + 1..count {
                    let (Some(a), Some(b)) = (range(i), range(j)) else {
                        continue;
                    };
                    assert!(a.end <= memory.words && b.end <= memory.words);
                    let together = last.unwrap() >= j;
                    assert!(!together || a.end <= b.start || b.end <= a.start, "{i} {j}");
                }
            }
        }
    }
}
