//! Which questions a process was asked already. What passes between instances can be recorded and sent again: each counts
//! once.

use crate::wireguard::replay::Window;
use std::collections::{BTreeMap, VecDeque};

/// Processes that may have asked at a time: of more, the one that asked first is forgotten.
const STREAMS: usize = 1024;

/// By the process that asks, with the one that came first in front.
#[derive(Default)]
pub struct SeenQuestions {
    windows: BTreeMap<u64, Box<Window>>,
    order: VecDeque<u64>,
}

impl SeenQuestions {
    /// Takes in a question that is authentic, and says whether it comes for the first time. Numbers begin with 1, and may
    /// come in another order.
    pub fn is_new(&mut self, stream: u64, number: u64) -> bool {
        if !self.windows.contains_key(&stream) {
            if self.order.len() >= STREAMS
                && let Some(first) = self.order.pop_front()
            {
                self.windows.remove(&first);
            }
            self.order.push_back(stream);
        }
        number > 0 && self.windows.entry(stream).or_default().accept(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_counts_once_in_whatever_order() {
        let mut seen = SeenQuestions::default();
        for number in [1, 3, 2, 7] {
            assert!(seen.is_new(9, number) && !seen.is_new(9, number), "{number}");
            assert!(seen.is_new(8, number), "another process has numbers of its own");
        }
        assert!(!seen.is_new(9, 1) && !seen.is_new(9, 0));
        // What is older than anybody waits is taken for seen.
        assert!(seen.is_new(9, 1_000_000) && !seen.is_new(9, 5));
    }

    #[test]
    fn no_more_processes_are_remembered_than_fit() {
        let mut seen = SeenQuestions::default();
        for stream in 0..5000 {
            assert!(seen.is_new(stream, 1));
        }
        assert_eq!((seen.windows.len(), seen.order.len()), (STREAMS, STREAMS));
        assert!(!seen.is_new(4999, 1));
    }
}
