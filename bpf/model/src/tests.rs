mod parse;
mod tag;
