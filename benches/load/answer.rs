//! An HTTP/1.1 answer, as far as it has been read (RFC 9112): pure, no socket.
//!
//! The client reads into one buffer and asks after each read whether the answer is whole. The head
//! is parsed once. A body with `Content-Length` stays where it is; one in chunks is put together
//! beside it, each chunk once.

/// Longest head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 512 << 20;

/// What cannot be read as an answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("no HTTP/1.1 answer: `{0}`")]
    Status(String),
    #[error("`content-length` is `{0}`, not a number")]
    Length(String),
    #[error("the head is longer than {MAX_HEAD} bytes")]
    LongHead,
    #[error("the answer is longer than {MAX_ANSWER} bytes")]
    LongAnswer,
    #[error("`{0}` is no size of a chunk")]
    ChunkSize(String),
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    #[error("the connection was closed after {0} bytes of the answer")]
    CutOff(usize),
}

/// How the end of a body is known (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// What the head says.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// `Mcp-Session-Id`.
    pub(crate) session: Option<String>,
    /// The body is `text/event-stream`.
    pub(crate) is_events: bool,
    /// The server closes the connection after it.
    pub(crate) closes: bool,
    bytes: usize,
    framing: Framing,
}

/// One answer under way.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    head: Option<Head>,
    /// Of a body in chunks: what is together, and where the next chunk begins in the buffer.
    together: Vec<u8>,
    at: usize,
}

impl Answer {
    /// Makes it ready for the next answer.
    pub(crate) fn clear(&mut self) {
        self.head = None;
        self.together.clear();
        self.at = 0;
    }

    /// The head, once it is there.
    pub(crate) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Bytes that are still to come, if that is known.
    pub(crate) fn missing(&self, buffer: &[u8]) -> Option<usize> {
        let head = self.head.as_ref()?;
        match head.framing {
            Framing::Length(length) => Some((head.bytes + length).saturating_sub(buffer.len())),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    /// Takes in that `buffer` has all that was read of this answer, and nothing after it comes if
    /// it has `ended`; true when the answer is whole.
    ///
    /// # Errors
    /// What is not as HTTP/1.1 has it, or that it ended too soon.
    pub(crate) fn advance(&mut self, buffer: &[u8], ended: bool) -> Result<bool, Malformed> {
        if buffer.len() > MAX_ANSWER {
            return Err(Malformed::LongAnswer);
        }
        if self.head.is_none() {
            self.head = read_head(buffer)?;
            self.at = self.head.as_ref().map_or(0, |head| head.bytes);
        }
        let whole = match &self.head {
            None => false,
            Some(head) => match head.framing {
                Framing::Length(length) => buffer.len() >= head.bytes + length,
                Framing::UntilClose => ended,
                Framing::Chunked => self.put_together(buffer)?,
            },
        };
        if ended && !whole {
            return Err(Malformed::CutOff(buffer.len()));
        }
        Ok(whole)
    }

    /// The body of a whole answer that is in `buffer`.
    pub(crate) fn body<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        match &self.head {
            None => &[],
            Some(head) => match head.framing {
                Framing::Length(length) => &buffer[head.bytes..head.bytes + length],
                Framing::UntilClose => &buffer[head.bytes..],
                Framing::Chunked => &self.together,
            },
        }
    }

    /// Takes the chunks that are whole; true after the last one and the trailers (RFC 9112, 7.1).
    fn put_together(&mut self, buffer: &[u8]) -> Result<bool, Malformed> {
        loop {
            let rest = &buffer[self.at..];
            let Some(line) = memchr::memmem::find(rest, b"\r\n") else {
                return Ok(false);
            };
            let size = chunk_size(&rest[..line])?;
            let data = line + 2;
            if size == 0 {
                // Trailers, each a line, and an empty one.
                let trailers = &rest[data..];
                return Ok(trailers.starts_with(b"\r\n")
                    || memchr::memmem::find(trailers, b"\r\n\r\n").is_some());
            }
            if rest.len() < data + size + 2 {
                return Ok(false);
            }
            if &rest[data + size..data + size + 2] != b"\r\n" {
                return Err(Malformed::ChunkEnd);
            }
            self.together.extend_from_slice(&rest[data..data + size]);
            self.at += data + size + 2;
        }
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, Malformed> {
    let text = String::from_utf8_lossy(line);
    // Extensions of a chunk come after a semicolon.
    let digits = text.split(';').next().unwrap_or_default().trim();
    match usize::from_str_radix(digits, 16) {
        Ok(size) if size <= MAX_ANSWER && !digits.starts_with('+') => Ok(size),
        _ => Err(Malformed::ChunkSize(text.into_owned())),
    }
}

/// The head, if all of it is there; interim answers (1xx) before it are skipped.
fn read_head(buffer: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut begin = 0;
    loop {
        let rest = &buffer[begin..];
        let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else {
            return if rest.len() > MAX_HEAD {
                Err(Malformed::LongHead)
            } else {
                Ok(None)
            };
        };
        let mut head = parse_head(&rest[..end])?;
        begin += end + 4;
        head.bytes = begin;
        if !(100..200).contains(&head.status) {
            return Ok(Some(head));
        }
    }
}

fn parse_head(text: &[u8]) -> Result<Head, Malformed> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let status = status(first)
        .ok_or_else(|| Malformed::Status(String::from_utf8_lossy(first).trim().to_owned()))?;
    let mut head = Head {
        status,
        session: None,
        is_events: false,
        closes: false,
        bytes: 0,
        framing: Framing::UntilClose,
    };
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        if is(b"content-length") {
            length = Some(number(value)?);
        } else if is(b"transfer-encoding") {
            chunked = value.to_ascii_lowercase().ends_with(b"chunked");
        } else if is(b"content-type") {
            let wanted = b"text/event-stream";
            head.is_events = value
                .get(..wanted.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(wanted));
        } else if is(b"connection") {
            head.closes = value.eq_ignore_ascii_case(b"close");
        } else if is(b"mcp-session-id") {
            head.session = Some(String::from_utf8_lossy(value).into_owned());
        }
    }
    head.framing = match length {
        _ if matches!(status, 100..=199 | 204 | 304) => Framing::Length(0),
        _ if chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    };
    head.closes |= head.framing == Framing::UntilClose;
    Ok(head)
}

/// `HTTP/1.1 200 OK` (a server of 1.0 would close the connection after each answer).
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}

fn number(value: &[u8]) -> Result<usize, Malformed> {
    let text = String::from_utf8_lossy(value);
    match text.parse() {
        Ok(number) if number <= MAX_ANSWER => Ok(number),
        Ok(_) => Err(Malformed::LongAnswer),
        Err(_) => Err(Malformed::Length(text.into_owned())),
    }
}
