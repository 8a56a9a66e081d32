//! A question and its answer between those who share a secret: nobody else reads or makes them, and an answer is to one
//! question. Whether a question was asked before is for who takes it to know.

use super::aead::{self, TAG_LENGTH, X_NONCE_LENGTH};
use super::random;

/// How much longer what is sealed is, in bytes.
pub const OVERHEAD: usize = X_NONCE_LENGTH + TAG_LENGTH;

/// What an answer is sealed with besides the secret: the nonce of the question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asking([u8; X_NONCE_LENGTH]);

fn seal(secret: &[u8; 32], about: &[u8], text: &[u8]) -> ([u8; X_NONCE_LENGTH], Vec<u8>) {
    let nonce = random::bytes();
    let mut sealed = Vec::with_capacity(text.len() + OVERHEAD);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(text);
    let tag = aead::x_seal(secret, &nonce, about, &mut sealed[X_NONCE_LENGTH..]);
    sealed.extend_from_slice(&tag);
    (nonce, sealed)
}

fn open(secret: &[u8; 32], about: &[u8], sealed: &[u8]) -> Option<([u8; X_NONCE_LENGTH], Vec<u8>)> {
    let (nonce, rest) = sealed.split_first_chunk()?;
    let (text, tag) = rest.split_last_chunk::<TAG_LENGTH>()?;
    let mut text = text.to_vec();
    aead::x_open(secret, nonce, about, &mut text, tag).ok()?;
    Some((*nonce, text))
}

/// Seals a question.
pub fn ask(secret: &[u8; 32], text: &[u8]) -> (Asking, Vec<u8>) {
    let (nonce, sealed) = seal(secret, b"?", text);
    (Asking(nonce), sealed)
}

/// Opens a question; `None` if it is not one with this secret.
pub fn take(secret: &[u8; 32], sealed: &[u8]) -> Option<(Asking, Vec<u8>)> {
    let (nonce, text) = open(secret, b"?", sealed)?;
    Some((Asking(nonce), text))
}

impl Asking {
    /// Seals the answer.
    pub fn answer(&self, secret: &[u8; 32], text: &[u8]) -> Vec<u8> {
        seal(secret, &self.0, text).1
    }

    /// Opens the answer; `None` if it is not one to this question.
    pub fn answered(&self, secret: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
        open(secret, &self.0, sealed).map(|(_, text)| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_to_its_question() {
        let (secret, other) = ([1; 32], [2; 32]);
        let (asking, question) = ask(&secret, b"how many?");
        assert_eq!(question.len(), 9 + OVERHEAD);
        assert_eq!(take(&other, &question), None);
        let (taken, text) = take(&secret, &question).unwrap();
        assert_eq!((taken, &text[..]), (asking, &b"how many?"[..]));
        let answer = taken.answer(&secret, b"two");
        assert_eq!(asking.answered(&secret, &answer).as_deref(), Some(&b"two"[..]));
        assert_eq!(asking.answered(&other, &answer), None);
        // Neither an answer to another question, nor a question, is an answer; nor an answer a question.
        let (again, _) = ask(&secret, b"how many?");
        assert_eq!(again.answered(&secret, &answer), None);
        assert_eq!(asking.answered(&secret, &question), None);
        assert_eq!(take(&secret, &answer), None);
        for end in 0..question.len() {
            assert_eq!(take(&secret, &question[..end]), None, "{end}");
        }
        for bit in 0..question.len() * 8 {
            let mut bent = question.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(take(&secret, &bent), None, "{bit}");
        }
    }
}
