//! The operator's token: who has it may do everything; the control socket needs none.

use std::{fmt, sync::Arc};

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use model::{Category, Error, code};

use crate::Fault;

/// The operator's token.
#[derive(Clone)]
pub struct OperatorToken(Arc<str>);

impl OperatorToken {
    /// A token of this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// Compares in a time that does not depend on where the texts differ.
    fn is(&self, text: &str) -> bool {
        let same = self
            .0
            .bytes()
            .zip(text.bytes())
            .fold(0, |differs, (a, b)| differs | (a ^ b));
        self.0.len() == text.len() && same == 0
    }
}

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorToken")
    }
}

pub(crate) async fn check(
    State(token): State<OperatorToken>,
    request: Request,
    next: Next,
) -> Response {
    let open = matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics");
    let said = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    if open || said.is_some_and(|said| token.is(said)) {
        return next.run(request).await;
    }
    let message = "the control API over TCP wants `Authorization: Bearer TOKEN`: the token is in operator.token in the data folder";
    let error = Error {
        category: Category::Unauthenticated,
        ..Error::new(code::BAD_REQUEST, message)
    };
    Fault(error).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_text_is_the_token() {
        let token = OperatorToken::new("abc");
        assert!(token.is("abc"));
        assert!(!token.is("abd") && !token.is("ab") && !token.is("abcd") && !token.is(""));
    }
}
