//! The program as the parser leaves it: names are resolved to slots.

use std::rc::Rc;

use regex::Regex;

/// A variable: global, or local to the function (parameters come first).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Index into the globals.
    Global(usize),
    /// Index into the current call's frame.
    Local(usize),
}

/// `< <= == != > >=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
}

/// Arithmetic on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
    /// `^`
    Power,
}

/// Where `getline` reads.
#[derive(Debug)]
pub enum Source {
    /// The main input.
    Main,
    /// A file.
    File(Box<Expression>),
    /// What a command prints.
    Command(Box<Expression>),
}

/// An expression.
#[derive(Debug)]
pub enum Expression {
    /// A number.
    Number(f64),
    /// A string.
    Text(Rc<str>),
    /// `/…/`: whether `$0` matches, unless a regular expression is wanted.
    Regex(Rc<Regex>),
    /// A variable.
    Variable(Variable),
    /// `$n`
    Field(Box<Expression>),
    /// `array[i, j]`
    Element(Variable, Vec<Expression>),
    /// `left = right`, with an operator for `+=` and its kind.
    Assign(Box<Expression>, Option<Arithmetic>, Box<Expression>),
    /// `a ? b : c`
    Conditional(Box<[Expression; 3]>),
    /// `a && b`
    And(Box<Expression>, Box<Expression>),
    /// `a || b`
    Or(Box<Expression>, Box<Expression>),
    /// `!a`
    Not(Box<Expression>),
    /// `-a`
    Negate(Box<Expression>),
    /// `+a`
    Plus(Box<Expression>),
    /// Arithmetic.
    Arithmetic(Arithmetic, Box<Expression>, Box<Expression>),
    /// Two strings joined.
    Concatenate(Box<Expression>, Box<Expression>),
    /// A comparison.
    Compare(Comparison, Box<Expression>, Box<Expression>),
    /// `text ~ regex`; true: negated.
    Match(bool, Box<Expression>, Box<Expression>),
    /// `(i, j) in array`
    In(Vec<Expression>, Variable),
    /// `(i, j)`, which only `in` and `print` may take.
    Group(Vec<Expression>),
    /// `++x`, `x++` and their negatives.
    Increment {
        /// What is changed.
        target: Box<Expression>,
        /// 1 or -1.
        by: f64,
        /// Its value is the new one.
        prefix: bool,
    },
    /// A call of a user's function.
    Call(usize, Vec<Expression>),
    /// A call of a built-in function.
    Builtin(Builtin, Vec<Expression>),
    /// `getline`.
    Getline(Source, Option<Box<Expression>>),
}

/// Built-in functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named as in awk")]
pub enum Builtin {
    And,
    Asort,
    Asorti,
    Atan2,
    Close,
    Compl,
    Cos,
    Exp,
    Fflush,
    Gensub,
    Gsub,
    Index,
    Int,
    Length,
    Log,
    Lshift,
    Match,
    Mktime,
    Or,
    Rand,
    Rshift,
    Sin,
    Split,
    Sprintf,
    Sqrt,
    Srand,
    Strftime,
    Strtonum,
    Sub,
    Substr,
    System,
    Systime,
    Tolower,
    Toupper,
    Xor,
}

impl Builtin {
    /// The function of this name.
    pub fn named(name: &str) -> Option<Self> {
        use Builtin as B;
        Some(match name {
            "and" => B::And,
            "asort" => B::Asort,
            "asorti" => B::Asorti,
            "atan2" => B::Atan2,
            "close" => B::Close,
            "compl" => B::Compl,
            "cos" => B::Cos,
            "exp" => B::Exp,
            "fflush" => B::Fflush,
            "gensub" => B::Gensub,
            "gsub" => B::Gsub,
            "index" => B::Index,
            "int" => B::Int,
            "length" => B::Length,
            "log" => B::Log,
            "lshift" => B::Lshift,
            "match" => B::Match,
            "mktime" => B::Mktime,
            "or" => B::Or,
            "rand" => B::Rand,
            "rshift" => B::Rshift,
            "sin" => B::Sin,
            "split" => B::Split,
            "sprintf" => B::Sprintf,
            "sqrt" => B::Sqrt,
            "srand" => B::Srand,
            "strftime" => B::Strftime,
            "strtonum" => B::Strtonum,
            "sub" => B::Sub,
            "substr" => B::Substr,
            "system" => B::System,
            "systime" => B::Systime,
            "tolower" => B::Tolower,
            "toupper" => B::Toupper,
            "xor" => B::Xor,
            _ => return None,
        })
    }
}

/// Where `print` writes.
#[derive(Debug)]
pub enum Target {
    /// `> file`
    File(Expression),
    /// `>> file`
    Append(Expression),
    /// `| command`
    Command(Expression),
}

/// A statement.
#[derive(Debug)]
pub enum Statement {
    /// An expression for its effect.
    Expression(Expression),
    /// `print`
    Print(Vec<Expression>, Option<Target>),
    /// `printf`
    Printf(Vec<Expression>, Option<Target>),
    /// `if`
    If(Expression, Box<Statement>, Option<Box<Statement>>),
    /// `while`
    While(Expression, Box<Statement>),
    /// `do … while`
    DoWhile(Box<Statement>, Expression),
    /// `for (;;)`
    For(
        Option<Box<Statement>>,
        Option<Expression>,
        Option<Box<Statement>>,
        Box<Statement>,
    ),
    /// `for (key in array)`
    ForIn(Variable, Variable, Box<Statement>),
    /// `switch`: cases with their values (none: default) and bodies.
    Switch(Expression, Vec<(Option<Expression>, Vec<Statement>)>),
    /// `{ … }`
    Block(Vec<Statement>),
    /// `next`
    Next,
    /// `nextfile`
    NextFile,
    /// `exit`
    Exit(Option<Expression>),
    /// `return`
    Return(Option<Expression>),
    /// `break`
    Break,
    /// `continue`
    Continue,
    /// `delete array[i]`, or all of it when there is no index.
    Delete(Variable, Option<Vec<Expression>>),
}

/// When an action runs.
#[derive(Debug)]
pub enum Pattern {
    /// Before the input.
    Begin,
    /// After the input.
    End,
    /// For each record.
    Always,
    /// For records where the expression holds.
    When(Expression),
    /// From a record where the first holds to one where the second holds; the number identifies its state.
    Range(Expression, Expression, usize),
}

/// A function: its name and body. Arguments missing in a call are empty.
#[derive(Debug, Default)]
pub struct Function {
    /// For messages.
    pub name: String,
    /// How many parameters it has.
    pub parameters: usize,
    /// `None` while only calls were seen.
    pub body: Option<Vec<Statement>>,
}

/// A whole program.
#[derive(Debug, Default)]
pub struct Program {
    /// Pattern and action; an action left out prints.
    pub rules: Vec<(Pattern, Vec<Statement>)>,
    /// Functions by the number calls use.
    pub functions: Vec<Function>,
    /// The names of the globals, by slot.
    pub globals: Vec<String>,
    /// How many range patterns there are.
    pub ranges: usize,
}

/// The globals with a meaning, at the slot of their position here.
pub const SPECIAL: [&str; 18] = [
    "NF", "NR", "FNR", "FS", "OFS", "ORS", "RS", "FILENAME", "SUBSEP", "RSTART", "RLENGTH", "CONVFMT", "OFMT",
    "ENVIRON", "ARGC", "ARGV", "RT", "PROCINFO",
];

/// Slots of [`SPECIAL`].
#[allow(missing_docs, reason = "each is named as in awk")]
pub mod slot {
    pub const NF: usize = 0;
    pub const NR: usize = 1;
    pub const FNR: usize = 2;
    pub const FS: usize = 3;
    pub const OFS: usize = 4;
    pub const ORS: usize = 5;
    pub const RS: usize = 6;
    pub const FILENAME: usize = 7;
    pub const SUBSEP: usize = 8;
    pub const RSTART: usize = 9;
    pub const RLENGTH: usize = 10;
    pub const CONVFMT: usize = 11;
    pub const OFMT: usize = 12;
    pub const ENVIRON: usize = 13;
    pub const ARGC: usize = 14;
    pub const ARGV: usize = 15;
    pub const RT: usize = 16;
    pub const PROCINFO: usize = 17;
}
