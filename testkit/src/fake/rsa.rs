//! RSA keys that decrypt, as both services offer them.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    OaepPublicEncryptingKey, PrivateDecryptingKey,
};
use data_encoding::BASE64;

/// A private key, which stays here.
pub(super) struct RsaKey(PrivateDecryptingKey);

/// The hash function of OAEP.
#[derive(Clone, Copy, Debug)]
pub(super) enum Oaep {
    Sha1,
    Sha256,
}

impl RsaKey {
    /// Makes a key of 2048, 3072 or 4096 bits, or says that there is no such size.
    pub(super) fn generate(bits: u64) -> Option<Self> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            _ => return None,
        };
        PrivateDecryptingKey::generate(size).ok().map(Self)
    }

    pub(super) fn encrypt(&self, oaep: Oaep, plaintext: &[u8]) -> Option<Vec<u8>> {
        let key = OaepPublicEncryptingKey::new(self.0.public_key()).ok()?;
        let mut ciphertext = vec![0; key.ciphertext_size()];
        let written = key.encrypt(oaep.algorithm(), plaintext, &mut ciphertext, None).ok()?.len();
        ciphertext.truncate(written);
        Some(ciphertext)
    }

    pub(super) fn decrypt(&self, oaep: Oaep, ciphertext: &[u8]) -> Option<Vec<u8>> {
        let key = OaepPrivateDecryptingKey::new(self.0.clone()).ok()?;
        let mut plaintext = vec![0; key.min_output_size()];
        let written = key.decrypt(oaep.algorithm(), ciphertext, &mut plaintext, None).ok()?.len();
        plaintext.truncate(written);
        Some(plaintext)
    }

    /// The public key, SubjectPublicKeyInfo in PEM.
    pub(super) fn public_pem(&self) -> String {
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        for line in BASE64.encode(&self.public_der()).as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem + "-----END PUBLIC KEY-----\n"
    }

    /// Modulus and public exponent, big-endian without leading zeros, as a JSON Web Key has them.
    pub(super) fn modulus_and_exponent(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        // SubjectPublicKeyInfo ::= SEQUENCE { algorithm SEQUENCE, subjectPublicKey BIT STRING } (RFC 5280, 4.1);
        // in the bit string RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER } (RFC 8017, A.1.1).
        let der = self.public_der();
        let (info, _) = element(&der)?;
        let (_, after_algorithm) = element(info)?;
        let (bits, _) = element(after_algorithm)?;
        let (numbers, _) = element(bits.strip_prefix(&[0])?)?;
        let (modulus, rest) = element(numbers)?;
        let (exponent, _) = element(rest)?;
        Some((without_sign(modulus), without_sign(exponent)))
    }

    fn public_der(&self) -> Vec<u8> {
        // A key that was generated can be written.
        self.0.public_key().as_der().map(|der| der.as_ref().to_vec()).unwrap_or_default()
    }
}

impl Oaep {
    fn algorithm(self) -> &'static OaepAlgorithm {
        match self {
            Self::Sha1 => &OAEP_SHA1_MGF1SHA1,
            Self::Sha256 => &OAEP_SHA256_MGF1SHA256,
        }
    }
}

/// The content of the first DER element, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match *der.get(1)? {
        short @ ..0x80 => (usize::from(short), der.get(2..)?),
        long => {
            let (length, rest) = der.get(2..)?.split_at_checked(usize::from(long & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
    };
    rest.split_at_checked(length)
}

fn without_sign(integer: &[u8]) -> Vec<u8> {
    integer.strip_prefix(&[0]).unwrap_or(integer).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encrypted_is_decrypted_and_nothing_else() {
        let key = RsaKey::generate(2048).unwrap();
        let mut ciphertext = key.encrypt(Oaep::Sha256, b"key").unwrap();
        assert_eq!(key.decrypt(Oaep::Sha256, &ciphertext).unwrap(), b"key");
        assert!(key.decrypt(Oaep::Sha1, &ciphertext).is_none());
        ciphertext[9] ^= 1;
        assert!(key.decrypt(Oaep::Sha256, &ciphertext).is_none());
    }

    #[test]
    fn the_public_key_has_the_modulus_of_its_size() {
        for bits in [2048, 3072] {
            let (modulus, exponent) = RsaKey::generate(bits).unwrap().modulus_and_exponent().unwrap();
            assert_eq!((modulus.len() as u64 * 8, exponent), (bits, vec![1, 0, 1]));
        }
        assert!(RsaKey::generate(1024).is_none());
    }
}
