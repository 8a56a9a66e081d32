//! The fuzzer's bytes as a supply of decisions: whatever is missing is zero, so every input means something.

pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Input(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit.max(1)
    }

    /// At most as many bytes as the next two say, and at most `limit`.
    pub fn bytes(&mut self, limit: usize) -> &'a [u8] {
        let stated = usize::from(u16::from_le_bytes([self.byte(), self.byte()]));
        let (taken, rest) = self.0.split_at(stated.min(limit).min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Changes some of `bytes`, or their number.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        match self.below(8) {
            0..3 => (),
            3 => bytes.truncate(usize::from(self.byte())),
            4 => bytes.extend_from_slice(self.bytes(64)),
            _ => {
                for _ in 0..1 + self.below(4) {
                    let (place, mask) = (usize::from(self.byte()), self.byte());
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte ^= mask;
                    }
                }
            }
        }
    }
}
