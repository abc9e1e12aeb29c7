// A real OpenID provider on loopback, with its development pages: any name signs in with any password.
// Argument: JSON {port, redirect, kid}. Says "ready" when it listens.
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const { port, redirect, kid } = JSON.parse(process.argv[2]);
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: 'himalia', client_secret: 'the hub proves itself', redirect_uris: [redirect] }],
  jwks: { keys: [{ ...key, kid, use: 'sig', alg: 'RS256' }] },
  cookies: { keys: ['a key of the tests'] },
  claims: { openid: ['sub'], profile: ['preferred_username'], email: ['email', 'email_verified'] },
  async findAccount(_context, id) {
    const claims = { preferred_username: id, email: 'shared@example.org', email_verified: true };
    return { accountId: id, claims: async () => ({ ...claims, sub: id }) };
  },
});
provider.listen(port, '127.0.0.1', () => console.log('ready'));
