//! Comparison whose duration does not tell where two secrets differ.

use subtle::ConstantTimeEq;

/// Whether `a` equals `b`. The time it takes depends on the lengths alone.
pub fn eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::eq;

    #[test]
    fn every_bit_and_the_length_count() {
        let secret = [0x5a; 16];
        assert!(eq(&secret, &secret.clone()));
        assert!(eq(&[], &[]));
        assert!(!eq(&secret, &secret[..15]));
        assert!(!eq(&secret, &[]));
        for bit in 0..128 {
            let mut other = secret;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!eq(&secret, &other), "bit {bit}");
        }
    }
}
