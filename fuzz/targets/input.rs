//! How a target takes its input apart.

/// The numbers of the first line, 0 where there are fewer, and what stands after that line.
pub(super) fn numbers<const N: usize>(input: &[u8]) -> ([usize; N], &[u8]) {
    let (first, rest) = first_line(input);
    let mut numbers = [0; N];
    let words = first
        .split(|byte| !byte.is_ascii_digit())
        .filter(|word| !word.is_empty());
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = word
            .iter()
            .take(9)
            .fold(0, |so_far, digit| so_far * 10 + usize::from(digit - b'0'));
    }
    (numbers, rest)
}

/// The first line without its end, and what stands after it.
pub(super) fn first_line(input: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let first = parts.next().unwrap_or_default();
    (first, parts.next().unwrap_or_default())
}

/// A step: the first letter of its word, the number that follows, 0 without one, and the rest of its line.
pub(super) fn step(line: &[u8]) -> Option<(u8, u8, &[u8])> {
    let (word, rest) = cut(line);
    let (digits, after) = cut(rest);
    let number = std::str::from_utf8(digits)
        .ok()
        .and_then(|n| n.parse().ok());
    let kind = *word.first()?;
    Some(match number {
        Some(number) => (kind, number, after),
        None => (kind, 0, rest),
    })
}

fn cut(line: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = line.splitn(2, |byte| *byte == b' ');
    let first = parts.next().unwrap_or_default();
    (first, parts.next().unwrap_or_default())
}
