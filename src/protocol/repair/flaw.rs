//! The ways in which a worker's message can be off.

macro_rules! flaws {
    ($($(#[$doc:meta])* $variant:ident = $label:literal, $text:literal;)*) => {
        /// How a worker's message can be off.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Flaw { $($(#[$doc])* $variant,)* }

        impl Flaw {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it stands in metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// In words, as what follows "the message".
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

flaws! {
    /// A byte that is no UTF-8, read as U+FFFD.
    Encoding = "encoding", "is not UTF-8";
    /// A byte order mark before it.
    ByteOrderMark = "byte_order_mark", "begins with a byte order mark";
    /// Other text on its line, such as a prompt.
    Surrounded = "surrounded", "shares its line with other text";
    /// A control character in a string, which must be escaped.
    ControlCharacter = "control_character", "has a raw control character in a string";
    /// `NaN` or `Infinity`, read as `null`.
    NotANumber = "not_a_number", "has `NaN` or `Infinity` in it, which JSON does not know";
    /// No `jsonrpc`, or another version than 2.0.
    Version = "version", "does not say `\"jsonrpc\":\"2.0\"`";
    /// A member that is `null` where it must not be there.
    NullMember = "null_member", "has a member that is `null` where there must be none";
    /// A member that is there twice.
    DuplicateMember = "duplicate_member", "has a member twice";
    /// A JSON array of messages.
    Batch = "batch", "is an array of messages";
    /// Written over several lines, as for people.
    Lines = "lines", "goes over several lines";
    /// The response has both `result` and `error`.
    ResultAndError = "result_and_error", "has both a `result` and an `error`";
    /// A `result` that is no object.
    Result = "result", "has a `result` that is no object";
    /// An `error` without code or message.
    Error = "error", "has an `error` without a number as `code` and a text as `message`";
    /// No id, or one of another type than string or number; of a question, also an id or progress token that is too long to be kept.
    Id = "id", "has no id that could be a request's";
    /// More bytes than are kept.
    TooLong = "too_long", "is longer than `max_message` lets through";
    /// Not JSON.
    Syntax = "syntax", "is not JSON";
    /// JSON that is no message.
    Shape = "shape", "is JSON, and no message of JSON-RPC";
}
