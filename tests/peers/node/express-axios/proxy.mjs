// What a team writes in an afternoon: express in front, axios behind, the credential put in between.
//   node proxy.mjs PORT UPSTREAM
import { Agent } from 'node:http';
import axios from 'axios';
import express from 'express';

const [port, upstream] = process.argv.slice(2);
const client = axios.create({
  baseURL: upstream,
  httpAgent: new Agent({ keepAlive: true, maxSockets: 256 }),
  responseType: 'stream',
  decompress: false,
  maxRedirects: 0,
  validateStatus: () => true,
});
const app = express();
app.disable('x-powered-by');
app.use(async (request, response) => {
  const { host, connection, authorization, ...headers } = request.headers;
  if (!authorization) return response.status(401).end();
  const answer = await client.request({
    method: request.method,
    url: request.url,
    headers: { ...headers, authorization: 'Bearer vendor-token' },
    data: ['GET', 'HEAD'].includes(request.method) ? undefined : request,
  });
  const { connection: _, ...kept } = answer.headers;
  response.status(answer.status).set(kept);
  answer.data.pipe(response);
});
app.listen(Number(port), '127.0.0.1');
