// Reads an AsyncAPI document from stdin; prints what the reference parser finds wrong with it, as JSON.
import { Parser } from "@asyncapi/parser";

let text = "";
for await (const piece of process.stdin) text += piece;
const { document, diagnostics } = await new Parser().parse(text);
const problems = diagnostics.map(({ code, message, path, severity }) => ({
  code,
  message,
  path: path.join("."),
  severity,
}));
const messages = document ? document.allMessages().all().map((message) => message.id()) : [];
process.stdout.write(JSON.stringify({ problems, messages }));
