//! Parses an awk program by recursive descent, following the grammar of POSIX awk with gawk's common additions.

use std::collections::HashMap;
use std::rc::Rc;

use super::ast::{
    Arithmetic, Builtin, Comparison, Expression, Function, Pattern, Program, SPECIAL, Source, Statement, Target,
    Variable,
};
use super::lexer::{Token, tokens};
use super::value::compile;

/// Expressions and blocks may nest this deep.
const MAX_NESTING: usize = 500;

struct Parser {
    tokens: Vec<(Token, u32)>,
    at: usize,
    program: Program,
    globals: HashMap<String, usize>,
    functions: HashMap<String, usize>,
    locals: HashMap<String, usize>,
    /// In the list of a `print`, `>` writes to a file.
    no_greater: bool,
    /// How deep the construct being read is nested.
    depth: usize,
}

type Parsed<T> = Result<T, String>;

/// Parses a program.
///
/// # Errors
/// What is wrong, with its line.
pub fn parse(source: &str) -> Parsed<(Program, HashMap<String, usize>)> {
    let mut parser = Parser {
        tokens: tokens(source)?,
        at: 0,
        program: Program::default(),
        globals: HashMap::new(),
        functions: HashMap::new(),
        locals: HashMap::new(),
        no_greater: false,
        depth: 0,
    };
    for name in SPECIAL {
        parser.global(name);
    }
    parser.rules()?;
    if let Some(undefined) = parser.program.functions.iter().find(|function| function.body.is_none()) {
        return Err(format!("function '{}' is not defined", undefined.name));
    }
    Ok((parser.program, parser.globals))
}

fn boxed(expression: Expression) -> Box<Expression> {
    Box::new(expression)
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn ahead(&self, count: usize) -> &Token {
        self.tokens.get(self.at + count).map_or(&Token::End, |(token, _)| token)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn error<T>(&self, message: &str) -> Parsed<T> {
        let line = self
            .tokens
            .get(self.at)
            .or(self.tokens.last())
            .map_or(1, |(_, line)| *line);
        Err(format!("line {line}: {message}"))
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn is_keyword(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Keyword(found) if *found == word)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Parsed<()> {
        if self.take(sign) {
            return Ok(());
        }
        let found = describe(self.peek());
        self.error(&format!("syntax error: expected '{sign}', found {found}"))
    }

    fn newlines(&mut self) {
        while *self.peek() == Token::Newline {
            self.at += 1;
        }
    }

    fn terminators(&mut self) {
        while *self.peek() == Token::Newline || self.is(";") {
            self.at += 1;
        }
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            self.error("nested too deeply")
        } else {
            Ok(())
        }
    }

    fn global(&mut self, name: &str) -> usize {
        if let Some(slot) = self.globals.get(name) {
            return *slot;
        }
        let slot = self.program.globals.len();
        self.program.globals.push(name.to_owned());
        self.globals.insert(name.to_owned(), slot);
        slot
    }

    fn variable(&mut self, name: &str) -> Variable {
        match self.locals.get(name) {
            Some(slot) => Variable::Local(*slot),
            None => Variable::Global(self.global(name)),
        }
    }

    fn name(&mut self) -> Parsed<String> {
        match self.next() {
            Token::Name(name) | Token::FunctionName(name) => Ok(name),
            other => {
                self.at -= 1;
                self.error(&format!("syntax error: expected a name, found {}", describe(&other)))
            }
        }
    }

    fn function_slot(&mut self, name: &str) -> usize {
        if let Some(slot) = self.functions.get(name) {
            return *slot;
        }
        let slot = self.program.functions.len();
        self.program.functions.push(Function {
            name: name.to_owned(),
            ..Function::default()
        });
        self.functions.insert(name.to_owned(), slot);
        slot
    }

    fn rules(&mut self) -> Parsed<()> {
        loop {
            self.terminators();
            match self.peek() {
                Token::End => return Ok(()),
                Token::Keyword("function") => self.function()?,
                _ => self.rule()?,
            }
        }
    }

    fn function(&mut self) -> Parsed<()> {
        self.at += 1;
        let name = self.name()?;
        let slot = self.function_slot(&name);
        if self.program.functions[slot].body.is_some() {
            return self.error(&format!("function '{name}' is defined twice"));
        }
        self.expect("(")?;
        self.locals.clear();
        self.newlines();
        while !self.take(")") {
            let parameter = self.name()?;
            let index = self.locals.len();
            self.locals.insert(parameter, index);
            self.newlines();
            if !self.is(")") {
                self.expect(",")?;
                self.newlines();
            }
        }
        let parameters = self.locals.len();
        self.newlines();
        let body = self.block()?;
        self.locals.clear();
        self.program.functions[slot].parameters = parameters;
        self.program.functions[slot].body = Some(body);
        Ok(())
    }

    fn rule(&mut self) -> Parsed<()> {
        let pattern = match self.peek() {
            Token::Keyword("BEGIN") => {
                self.at += 1;
                Pattern::Begin
            }
            Token::Keyword("END") => {
                self.at += 1;
                Pattern::End
            }
            Token::Sign("{") => Pattern::Always,
            _ => {
                let first = self.expression()?;
                if self.take(",") {
                    self.newlines();
                    let second = self.expression()?;
                    self.program.ranges += 1;
                    Pattern::Range(first, second, self.program.ranges - 1)
                } else {
                    Pattern::When(first)
                }
            }
        };
        let bare = matches!(pattern, Pattern::Begin | Pattern::End);
        if bare {
            self.newlines();
        }
        let action = if self.is("{") {
            self.block()?
        } else if bare {
            return self.error("BEGIN and END need an action");
        } else {
            if !matches!(self.peek(), Token::Newline | Token::End) && !self.is(";") {
                let found = describe(self.peek());
                return self.error(&format!("syntax error at {found}"));
            }
            vec![Statement::Print(Vec::new(), None)]
        };
        self.program.rules.push((pattern, action));
        Ok(())
    }

    fn block(&mut self) -> Parsed<Vec<Statement>> {
        self.expect("{")?;
        let mut statements = Vec::new();
        loop {
            self.terminators();
            if self.take("}") {
                return Ok(statements);
            }
            if *self.peek() == Token::End {
                return self.error("syntax error: a '}' is missing at the end");
            }
            statements.push(self.statement()?);
        }
    }

    fn statement(&mut self) -> Parsed<Statement> {
        self.deeper()?;
        let statement = self.statement_inside();
        self.depth -= 1;
        statement
    }

    fn statement_inside(&mut self) -> Parsed<Statement> {
        match self.peek().clone() {
            Token::Sign("{") => return Ok(Statement::Block(self.block()?)),
            Token::Sign(";") => {
                self.at += 1;
                return Ok(Statement::Block(Vec::new()));
            }
            Token::Keyword(word @ ("if" | "while" | "for" | "switch")) => {
                self.at += 1;
                return match word {
                    "if" => self.if_statement(),
                    "while" => {
                        let condition = self.condition()?;
                        Ok(Statement::While(condition, self.body()?))
                    }
                    "for" => self.for_statement(),
                    _ => self.switch_statement(),
                };
            }
            _ => {}
        }
        let statement = self.simple_statement()?;
        match self.peek() {
            Token::Newline => self.at += 1,
            Token::Sign(";") => self.at += 1,
            Token::Sign("}") | Token::End => {}
            other => {
                let found = describe(other);
                return self.error(&format!("syntax error at {found}"));
            }
        }
        Ok(statement)
    }

    fn condition(&mut self) -> Parsed<Expression> {
        self.expect("(")?;
        let condition = self.expression()?;
        self.expect(")")?;
        Ok(condition)
    }

    /// The statement a loop or `if` governs; a lone `;` is an empty one.
    fn body(&mut self) -> Parsed<Box<Statement>> {
        self.newlines();
        Ok(Box::new(self.statement()?))
    }

    fn if_statement(&mut self) -> Parsed<Statement> {
        let condition = self.condition()?;
        let then = self.body()?;
        let before = self.at;
        self.terminators();
        if !self.is_keyword("else") {
            self.at = before;
            return Ok(Statement::If(condition, then, None));
        }
        self.at += 1;
        let otherwise = self.body()?;
        Ok(Statement::If(condition, then, Some(otherwise)))
    }

    fn for_statement(&mut self) -> Parsed<Statement> {
        self.expect("(")?;
        if let (Token::Name(key), Token::Keyword("in"), Token::Name(array), Token::Sign(")")) = (
            self.peek().clone(),
            self.ahead(1).clone(),
            self.ahead(2).clone(),
            self.ahead(3).clone(),
        ) {
            self.at += 4;
            let (key, array) = (self.variable(&key), self.variable(&array));
            return Ok(Statement::ForIn(key, array, self.body()?));
        }
        let start = if self.is(";") {
            None
        } else {
            Some(Box::new(self.simple_statement()?))
        };
        self.expect(";")?;
        self.newlines();
        let condition = if self.is(";") { None } else { Some(self.expression()?) };
        self.expect(";")?;
        self.newlines();
        let step = if self.is(")") {
            None
        } else {
            Some(Box::new(self.simple_statement()?))
        };
        self.expect(")")?;
        Ok(Statement::For(start, condition, step, self.body()?))
    }

    fn switch_statement(&mut self) -> Parsed<Statement> {
        let subject = self.condition()?;
        self.newlines();
        self.expect("{")?;
        let mut cases = Vec::new();
        loop {
            self.terminators();
            if self.take("}") {
                return Ok(Statement::Switch(subject, cases));
            }
            let value = match self.next() {
                Token::Keyword("case") => Some(self.ternary()?),
                Token::Keyword("default") => None,
                _ => {
                    self.at -= 1;
                    return self.error("syntax error: expected 'case' or 'default'");
                }
            };
            self.expect(":")?;
            let mut body = Vec::new();
            loop {
                self.terminators();
                if self.is("}") || self.is_keyword("case") || self.is_keyword("default") {
                    break;
                }
                body.push(self.statement()?);
            }
            cases.push((value, body));
        }
    }

    fn ends_statement(&self) -> bool {
        matches!(self.peek(), Token::Newline | Token::End | Token::Sign(";" | "}"))
    }

    fn simple_statement(&mut self) -> Parsed<Statement> {
        let Token::Keyword(word) = *self.peek() else {
            return Ok(Statement::Expression(self.expression()?));
        };
        if word == "getline" {
            return Ok(Statement::Expression(self.expression()?));
        }
        self.at += 1;
        let optional = |parser: &mut Self| {
            if parser.ends_statement() {
                Ok(None)
            } else {
                parser.expression().map(Some)
            }
        };
        Ok(match word {
            "print" | "printf" => self.print(word == "printf")?,
            "next" => Statement::Next,
            "nextfile" => Statement::NextFile,
            "break" => Statement::Break,
            "continue" => Statement::Continue,
            "exit" => Statement::Exit(optional(self)?),
            "return" => Statement::Return(optional(self)?),
            "delete" => {
                let name = self.name()?;
                let array = self.variable(&name);
                let index = if self.take("[") { Some(self.list("]")?) } else { None };
                Statement::Delete(array, index)
            }
            "do" => {
                let body = self.body()?;
                self.terminators();
                if !self.is_keyword("while") {
                    return self.error("syntax error: 'do' needs a 'while'");
                }
                self.at += 1;
                Statement::DoWhile(body, self.condition()?)
            }
            other => {
                self.at -= 1;
                return self.error(&format!("syntax error at '{other}'"));
            }
        })
    }

    fn print(&mut self, formatted: bool) -> Parsed<Statement> {
        let before = std::mem::replace(&mut self.no_greater, true);
        let mut list = Vec::new();
        let redirected = |parser: &Self| matches!(parser.peek(), Token::Sign(">" | ">>" | "|"));
        if !self.ends_statement() && !redirected(self) {
            list.push(self.expression()?);
            while self.take(",") {
                self.newlines();
                list.push(self.expression()?);
            }
        }
        // `print (a, b)` has one operand, the list.
        if let [Expression::Group(_)] = list.as_slice()
            && let Some(Expression::Group(inner)) = list.pop()
        {
            list = inner;
        }
        let target = match self.peek() {
            Token::Sign(sign @ (">" | ">>" | "|")) => {
                let sign = *sign;
                self.at += 1;
                let name = self.concatenation()?;
                Some(match sign {
                    ">" => Target::File(name),
                    ">>" => Target::Append(name),
                    _ => Target::Command(name),
                })
            }
            _ => None,
        };
        self.no_greater = before;
        if formatted && list.is_empty() {
            return self.error("printf needs a format");
        }
        Ok(if formatted {
            Statement::Printf(list, target)
        } else {
            Statement::Print(list, target)
        })
    }

    /// Expressions up to a closing sign, which is taken.
    fn list(&mut self, close: &str) -> Parsed<Vec<Expression>> {
        let before = std::mem::replace(&mut self.no_greater, false);
        let mut list = Vec::new();
        self.newlines();
        while !self.take(close) {
            list.push(self.expression()?);
            self.newlines();
            if !self.is(close) {
                self.expect(",")?;
                self.newlines();
            }
        }
        self.no_greater = before;
        Ok(list)
    }

    fn expression(&mut self) -> Parsed<Expression> {
        self.deeper()?;
        let expression = self.ternary();
        self.depth -= 1;
        expression
    }

    fn ternary(&mut self) -> Parsed<Expression> {
        let condition = self.or()?;
        if self.take("?") {
            self.newlines();
            let yes = self.expression()?;
            self.newlines();
            self.expect(":")?;
            self.newlines();
            let no = self.expression()?;
            return Ok(Expression::Conditional(Box::new([condition, yes, no])));
        }
        let operator = match self.peek() {
            Token::Sign("=") => None,
            Token::Sign("+=") => Some(Arithmetic::Add),
            Token::Sign("-=") => Some(Arithmetic::Subtract),
            Token::Sign("*=") => Some(Arithmetic::Multiply),
            Token::Sign("/=") => Some(Arithmetic::Divide),
            Token::Sign("%=") => Some(Arithmetic::Remainder),
            Token::Sign("^=") => Some(Arithmetic::Power),
            _ => return Ok(condition),
        };
        self.at += 1;
        self.newlines();
        let value = self.expression()?;
        self.assign(condition, operator, value)
    }

    /// `a == b = c` and `!x = y` mean an assignment to the rightmost place, as every awk takes them.
    fn assign(&self, left: Expression, operator: Option<Arithmetic>, value: Expression) -> Parsed<Expression> {
        use Expression as E;
        Ok(match left {
            E::Variable(_) | E::Field(_) | E::Element(..) => E::Assign(boxed(left), operator, boxed(value)),
            E::And(a, b) => E::And(a, boxed(self.assign(*b, operator, value)?)),
            E::Or(a, b) => E::Or(a, boxed(self.assign(*b, operator, value)?)),
            E::Not(a) => E::Not(boxed(self.assign(*a, operator, value)?)),
            E::Negate(a) => E::Negate(boxed(self.assign(*a, operator, value)?)),
            E::Compare(kind, a, b) => E::Compare(kind, a, boxed(self.assign(*b, operator, value)?)),
            E::Match(negated, a, b) => E::Match(negated, a, boxed(self.assign(*b, operator, value)?)),
            E::Concatenate(a, b) => E::Concatenate(a, boxed(self.assign(*b, operator, value)?)),
            _ => return self.error("syntax error: only a variable, field or element can be assigned to"),
        })
    }

    fn or(&mut self) -> Parsed<Expression> {
        let mut left = self.and()?;
        while self.take("||") {
            self.newlines();
            left = Expression::Or(boxed(left), boxed(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed<Expression> {
        let mut left = self.membership()?;
        while self.take("&&") {
            self.newlines();
            left = Expression::And(boxed(left), boxed(self.membership()?));
        }
        Ok(left)
    }

    fn membership(&mut self) -> Parsed<Expression> {
        let mut left = self.matching()?;
        while self.is_keyword("in") {
            self.at += 1;
            let name = self.name()?;
            let keys = match left {
                Expression::Group(keys) => keys,
                single => vec![single],
            };
            left = Expression::In(keys, self.variable(&name));
        }
        Ok(left)
    }

    fn matching(&mut self) -> Parsed<Expression> {
        let mut left = self.comparison()?;
        while self.is("~") || self.is("!~") {
            let negated = self.is("!~");
            self.at += 1;
            left = Expression::Match(negated, boxed(left), boxed(self.comparison()?));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Parsed<Expression> {
        let mut left = self.piped()?;
        loop {
            let kind = match self.peek() {
                Token::Sign("<") => Comparison::Less,
                Token::Sign("<=") => Comparison::LessEqual,
                Token::Sign("==") => Comparison::Equal,
                Token::Sign("!=") => Comparison::NotEqual,
                Token::Sign(">") if !self.no_greater => Comparison::Greater,
                Token::Sign(">=") => Comparison::GreaterEqual,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expression::Compare(kind, boxed(left), boxed(self.piped()?));
        }
    }

    /// `command | getline`
    fn piped(&mut self) -> Parsed<Expression> {
        let mut left = self.concatenation()?;
        while (self.is("|") || self.is("|&")) && *self.ahead(1) == Token::Keyword("getline") {
            self.at += 2;
            let target = self.getline_target()?;
            left = Expression::Getline(Source::Command(boxed(left)), target);
        }
        Ok(left)
    }

    fn getline_target(&mut self) -> Parsed<Option<Box<Expression>>> {
        Ok(match self.peek() {
            Token::Name(_) | Token::Sign("$") => Some(boxed(self.primary()?)),
            _ => None,
        })
    }

    fn concatenation(&mut self) -> Parsed<Expression> {
        let mut left = self.additive()?;
        while matches!(
            self.peek(),
            Token::Number(_)
                | Token::Text(_)
                | Token::Regex(_)
                | Token::Name(_)
                | Token::FunctionName(_)
                | Token::Builtin(_)
        ) || matches!(self.peek(), Token::Sign("$" | "(" | "++" | "--" | "!" | "-" | "+"))
        {
            left = Expression::Concatenate(boxed(left), boxed(self.additive()?));
        }
        Ok(left)
    }

    fn additive(&mut self) -> Parsed<Expression> {
        let mut left = self.multiplicative()?;
        loop {
            let operator = match self.peek() {
                Token::Sign("+") => Arithmetic::Add,
                Token::Sign("-") => Arithmetic::Subtract,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expression::Arithmetic(operator, boxed(left), boxed(self.multiplicative()?));
        }
    }

    fn multiplicative(&mut self) -> Parsed<Expression> {
        let mut left = self.unary()?;
        loop {
            let operator = match self.peek() {
                Token::Sign("*") => Arithmetic::Multiply,
                Token::Sign("/") => Arithmetic::Divide,
                Token::Sign("%") => Arithmetic::Remainder,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expression::Arithmetic(operator, boxed(left), boxed(self.unary()?));
        }
    }

    fn unary(&mut self) -> Parsed<Expression> {
        self.deeper()?;
        let expression = if self.take("!") {
            self.unary().map(|inner| Expression::Not(boxed(inner)))
        } else if self.take("-") {
            self.unary().map(|inner| Expression::Negate(boxed(inner)))
        } else if self.take("+") {
            self.unary().map(|inner| Expression::Plus(boxed(inner)))
        } else {
            self.power()
        };
        self.depth -= 1;
        expression
    }

    fn power(&mut self) -> Parsed<Expression> {
        let base = self.postfix()?;
        if !self.take("^") {
            return Ok(base);
        }
        // Right associative, and binding tighter than a sign on its left but not on its right.
        let exponent = self.unary()?;
        Ok(Expression::Arithmetic(Arithmetic::Power, boxed(base), boxed(exponent)))
    }

    fn postfix(&mut self) -> Parsed<Expression> {
        let target = self.primary()?;
        let by = match self.peek() {
            Token::Sign("++") => 1.0,
            Token::Sign("--") => -1.0,
            _ => return Ok(target),
        };
        if !matches!(
            target,
            Expression::Variable(_) | Expression::Field(_) | Expression::Element(..)
        ) {
            return Ok(target);
        }
        self.at += 1;
        Ok(Expression::Increment {
            target: boxed(target),
            by,
            prefix: false,
        })
    }

    fn primary(&mut self) -> Parsed<Expression> {
        match self.next() {
            Token::Number(number) => Ok(Expression::Number(number)),
            Token::Text(text) => Ok(Expression::Text(text.into())),
            Token::Regex(text) => match compile(&text) {
                Ok(regex) => Ok(Expression::Regex(Rc::new(regex))),
                Err(error) => self.error(&format!("regular expression /{text}/: {error}")),
            },
            Token::Name(name) => {
                let variable = self.variable(&name);
                if self.take("[") {
                    return Ok(Expression::Element(variable, self.list("]")?));
                }
                Ok(Expression::Variable(variable))
            }
            Token::FunctionName(name) => {
                self.expect("(")?;
                let arguments = self.list(")")?;
                let slot = self.function_slot(&name);
                Ok(Expression::Call(slot, arguments))
            }
            Token::Builtin(builtin) => {
                let arguments = if self.take("(") { self.list(")")? } else { Vec::new() };
                if arguments.is_empty()
                    && !matches!(
                        builtin,
                        Builtin::Length
                            | Builtin::Rand
                            | Builtin::Srand
                            | Builtin::Systime
                            | Builtin::Fflush
                            | Builtin::Strftime
                    )
                {
                    return self.error("a function lacks its arguments");
                }
                Ok(Expression::Builtin(builtin, arguments))
            }
            Token::Sign("(") => self.parentheses(),
            Token::Sign("$") => {
                self.deeper()?;
                let index = match self.peek() {
                    Token::Sign(sign @ ("++" | "--")) => {
                        let by = if *sign == "++" { 1.0 } else { -1.0 };
                        self.at += 1;
                        Expression::Increment {
                            target: boxed(self.primary()?),
                            by,
                            prefix: true,
                        }
                    }
                    Token::Sign("-") => {
                        self.at += 1;
                        Expression::Negate(boxed(self.primary()?))
                    }
                    _ => self.primary()?,
                };
                self.depth -= 1;
                Ok(Expression::Field(boxed(index)))
            }
            Token::Sign(sign @ ("++" | "--")) => {
                let by = if sign == "++" { 1.0 } else { -1.0 };
                let target = self.primary()?;
                if !matches!(
                    target,
                    Expression::Variable(_) | Expression::Field(_) | Expression::Element(..)
                ) {
                    return self.error(&format!("syntax error: '{sign}' needs a variable"));
                }
                Ok(Expression::Increment {
                    target: boxed(target),
                    by,
                    prefix: true,
                })
            }
            Token::Sign("-") => Ok(Expression::Negate(boxed(self.unary()?))),
            Token::Sign("+") => Ok(Expression::Plus(boxed(self.unary()?))),
            Token::Sign("!") => Ok(Expression::Not(boxed(self.unary()?))),
            Token::Keyword("getline") => {
                let target = self.getline_target()?;
                let source = if self.take("<") {
                    Source::File(boxed(self.postfix()?))
                } else {
                    Source::Main
                };
                Ok(Expression::Getline(source, target))
            }
            other => {
                self.at -= 1;
                self.error(&format!("syntax error at {}", describe(&other)))
            }
        }
    }

    /// After `(`: an expression, or a list that `in` or `print` takes.
    fn parentheses(&mut self) -> Parsed<Expression> {
        let mut list = self.list(")")?;
        match list.len() {
            0 => self.error("syntax error: empty parentheses"),
            1 => Ok(list.remove(0)),
            _ => Ok(Expression::Group(list)),
        }
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::Newline => "the end of the line".into(),
        Token::End => "the end of the program".into(),
        Token::Number(number) => number.to_string(),
        Token::Text(text) => format!("\"{text}\""),
        Token::Regex(text) => format!("/{text}/"),
        Token::Name(name) | Token::FunctionName(name) => format!("'{name}'"),
        Token::Builtin(builtin) => format!("'{}'", format!("{builtin:?}").to_lowercase()),
        Token::Keyword(word) => format!("'{word}'"),
        Token::Sign(sign) => format!("'{sign}'"),
    }
}
