-- What the shop keeps. The outbox beside it is in outbox.sql, as `tangelo outbox init postgres` prints it.
CREATE TABLE products (
  sku   text PRIMARY KEY,
  name  text NOT NULL,
  price numeric NOT NULL
);

CREATE TABLE orders (
  id       text PRIMARY KEY,
  customer text NOT NULL,
  sku      text NOT NULL REFERENCES products,
  quantity integer NOT NULL,
  total    numeric NOT NULL,
  state    text NOT NULL
);
