// The demonstration accounts: scrypt hashes of the passwords in README.md. `nobody` has no known password.
export const users = {
  __proto__: null, // so that "constructor" is nobody
  ada: { roles: ["customer"], salt: "ada-1", hash: "5222b67bd293f2105fbd54afcf4ddce9723a4cae4a37d944f7761d03e646d224" },
  grace: { roles: ["customer","staff"], salt: "grace-1", hash: "c082ef34be68f3129005a356f5704ce5e2c98627a232283887740be9799bb12c" },
  nobody: { roles: [], salt: "nobody-1", hash: "fbb8369e8fce0a3cf8df40193c50ac4aff9d3f8fea067bb41c0873957991cbce" },
};
