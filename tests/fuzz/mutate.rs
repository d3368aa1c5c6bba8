//! Texts that are a little off: made of a corpus, in a fixed order.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// What is put in anywhere: what ends, opens, escapes or overflows something somewhere.
const TOKENS: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"\0",
    b"\x7f",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"18446744073709551616",
    b"9007199254740993",
    b"\\u0000",
    b"\\ud800",
    b"\\u0069d",
    b"\"id\":1,",
    b"\"id\":null,",
    b"\"jsonrpc\":\"2.0\",",
    b"\"method\":\"tools/call\",",
    b"\"result\":{},",
    b"\"error\":{},",
    b"\"params\":{},",
    b"\"_meta\":{},",
    b"\"progressToken\":1,",
    b"${",
    b"$${",
    b"}",
    b":-",
    b"--",
    b"-",
    b"@",
    b"/",
    b"..",
    b"%2e",
    b"*",
    b"?",
    b"127.0.0.1",
    b"[::1]",
    b"localhost",
    b":0",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"data: x\n\n",
    b"event: endpoint\n",
    b"id: 1-1\n",
    b"retry: 1\n",
    "\u{202e}".as_bytes(),
    "\u{feff}".as_bytes(),
    "\u{1f600}".as_bytes(),
    "\u{130}".as_bytes(),
    "\u{2028}".as_bytes(),
];

/// Gives one mutation after the other.
pub(super) struct Mutator {
    dice: SmallRng,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    /// Of that corpus; what `name` is decides which mutations come.
    pub(super) fn new(name: &str, corpus: Vec<Vec<u8>>) -> Self {
        let seed = name
            .bytes()
            .fold(7, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
        Self {
            dice: SmallRng::seed_from_u64(seed),
            corpus,
        }
    }

    /// The next one, of at most `longest` bytes.
    pub(super) fn next(&mut self, longest: usize) -> Vec<u8> {
        let mut text = self.any().to_vec();
        for _ in 0..self.dice.random_range(1..5) {
            self.change(&mut text);
        }
        text.truncate(longest);
        text
    }

    fn any(&mut self) -> &[u8] {
        self.corpus.choose(&mut self.dice).expect("a corpus")
    }

    fn at(&mut self, text: &[u8]) -> usize {
        self.dice.random_range(0..=text.len())
    }

    /// A place and one behind it, at most `most` bytes on.
    fn range(&mut self, text: &[u8], most: usize) -> (usize, usize) {
        let from = self.at(text);
        let to = from + self.dice.random_range(0..=most);
        (from, to.min(text.len()))
    }

    fn change(&mut self, text: &mut Vec<u8>) {
        match self.dice.random_range(0..9) {
            0 if !text.is_empty() => {
                let at = self.dice.random_range(0..text.len());
                text[at] ^= 1 << self.dice.random_range(0..8);
            }
            1 if !text.is_empty() => {
                let at = self.dice.random_range(0..text.len());
                text[at] = self.dice.random();
            }
            2 => {
                let (from, to) = self.range(text, 16);
                text.drain(from..to);
            }
            3 => {
                let (from, to) = self.range(text, 32);
                let part = text[from..to].to_vec();
                let at = self.at(text);
                text.splice(at..at, part);
            }
            4 => {
                let at = self.at(text);
                text.truncate(at);
            }
            // Behind a part of one stands a part of another.
            5 => {
                let at = self.at(text);
                text.truncate(at);
                let other = self.any().to_vec();
                let from = self.at(&other);
                text.extend_from_slice(&other[from..]);
            }
            6 => self.lines(text),
            _ => {
                let token = TOKENS.choose(&mut self.dice).expect("a token");
                let (from, to) = self.range(text, 2);
                text.splice(from..to, token.iter().copied());
            }
        }
    }

    /// A line more, a line less, or two in another order.
    fn lines(&mut self, text: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> = text
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let (one, other) = (
            self.dice.random_range(0..lines.len()),
            self.dice.random_range(0..lines.len()),
        );
        match self.dice.random_range(0..3) {
            0 => lines.swap(one, other),
            1 => {
                lines.remove(one);
            }
            _ => lines.insert(other, lines[one].clone()),
        }
        *text = lines.join(&b'\n');
    }
}
