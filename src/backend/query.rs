//! Questions to the database: one statement that reads, within bounds.

use std::fmt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

/// Bytes of one text or blob, and of the statement.
const LENGTH: i32 = 16 << 20;
/// Bytes of texts and blobs in an answer; it is cut where they are exceeded.
const ANSWER: usize = 64 << 20;
/// Memory that SQLite may take.
const HEAP: i64 = 256 << 20;

/// How much a question may cost.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    /// Rows of the answer.
    pub rows: usize,
    /// Time to answer.
    pub time: Duration,
}

impl Default for QueryLimits {
    /// 10,000 rows, 10 s.
    fn default() -> Self {
        Self { rows: 10_000, time: Duration::from_secs(10) }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows, each with a cell per column.
    pub rows: Vec<Vec<Cell>>,
    /// There were more.
    pub cut: bool,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT; what is no UTF-8 is replaced.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
}

impl Cell {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// A question without an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum QueryError {
    /// There is no database at this path, or none that can be read.
    Database(String),
    /// The statement is wrong, in SQLite's words.
    Statement(String),
    /// The statement would write, or there is more than one.
    NotOneQuestion,
    /// The time was up.
    TooLong(Duration),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => write!(f, "the database cannot be read: {error}"),
            Self::Statement(error) => f.write_str(error),
            Self::NotOneQuestion => f.write_str("only one statement that reads is allowed, such as SELECT"),
            Self::TooLong(time) => write!(f, "stopped after {} s without an answer", time.as_secs_f32()),
        }
    }
}

impl std::error::Error for QueryError {}

/// Asks the database at `path`. A server may be writing to it meanwhile.
///
/// # Errors
/// See [`QueryError`].
pub fn query(path: &Path, statement: &str, limits: QueryLimits) -> Result<Rows, QueryError> {
    let connection = open(path).map_err(|error| QueryError::Database(error.to_string()))?;
    let interrupt = connection.get_interrupt_handle();
    let (finished, waiting) = channel::<()>();
    let watch = std::thread::Builder::new().name("factline-query".to_owned()).spawn(move || {
        if waiting.recv_timeout(limits.time) == Err(RecvTimeoutError::Timeout) {
            // Again and again: an interrupt between two steps is forgotten by the next statement.
            while waiting.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        }
    });
    let watch = watch.map_err(|error| QueryError::Database(error.to_string()))?;
    let answer = ask(&connection, statement, limits.rows);
    drop(finished);
    // It ends at once, and touches the connection no more.
    let _ = watch.join();
    answer.map_err(|error| match error {
        Refused::Sqlite(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) =>
        {
            QueryError::TooLong(limits.time)
        }
        Refused::Sqlite(rusqlite::Error::MultipleStatement) | Refused::Writes => QueryError::NotOneQuestion,
        Refused::Sqlite(error) => QueryError::Statement(error.to_string()),
    })
}

enum Refused {
    Sqlite(rusqlite::Error),
    Writes,
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // What it lets be read, it must not let be changed through another door either.
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "hard_heap_limit", HEAP)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LENGTH)?;
    connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, LENGTH)?;
    // SQLite looks at a file only when it is asked something.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

fn ask(connection: &Connection, statement: &str, most: usize) -> Result<Rows, Refused> {
    let mut statement = connection.prepare(statement)?;
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(Refused::Writes);
    }
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let mut rows = statement.query([])?;
    let mut out = Rows { columns, rows: Vec::new(), cut: false };
    let mut bytes = 0_usize;
    while let Some(row) = rows.next()? {
        if out.rows.len() == most || bytes > ANSWER {
            out.cut = true;
            break;
        }
        let cells = (0..out.columns.len()).map(|column| row.get_ref(column).map(cell));
        let cells: Vec<Cell> = cells.collect::<Result<_, _>>()?;
        bytes += cells.iter().map(Cell::len).sum::<usize>();
        out.rows.push(cells);
    }
    Ok(out)
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Integer(value),
        ValueRef::Real(value) => Cell::Real(value),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
    }
}
