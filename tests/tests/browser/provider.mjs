// A real OpenID provider (npm: oidc-provider) for the tests: whoever types a name is that person. Its keys are new with each
// start. Arguments: folder with cert.pem and key.pem, port, redirect URI, node_modules.
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { pathToFileURL } from "node:url";

const [folder, port, redirect, modules] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`).href);
const groups = { anna: ["plant-admins"], olga: ["plant-operators", "plant-admins-of-another-plant"] };
const issuer = `https://localhost:${port}`;
const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const provider = new Provider(issuer, {
  clients: [{
    client_id: "linkspan",
    client_secret: "a secret of the client: 100 % + more",
    redirect_uris: [redirect],
    post_logout_redirect_uris: [redirect.replace("/oidc/callback", "/login")],
    response_types: ["code"],
    grant_types: ["authorization_code"],
  }],
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"] },
  cookies: { keys: ["a key for cookies"] },
  features: { devInteractions: { enabled: true } },
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, groups: groups[id] ?? [] }),
  }),
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: `key-${Date.now()}`, use: "sig", alg: "RS256" }] },
  pkce: { required: () => true },
});
const tls = { cert: readFileSync(`${folder}/cert.pem`), key: readFileSync(`${folder}/key.pem`) };
createServer(tls, provider.callback()).listen(Number(port), "127.0.0.1", () => console.log("ready"));
