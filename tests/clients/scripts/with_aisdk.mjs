// Vercel's AI SDK over chat completions and over responses. Each check is told of in a line of JSON.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// The packages lie in the client's own folder, not beside this script.
const require = createRequire(`${process.env.CLIENT_DIR}/package.json`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { embedMany, generateObject, generateText, stepCountIs, streamText, streamObject, tool, Output } =
  await load('ai');
const { createOpenAI } = await load('@ai-sdk/openai');
const { z } = await load('zod');

globalThis.AI_SDK_LOG_WARNINGS = false;
const openai = createOpenAI({
  baseURL: `${process.env.INHOUSE_URL}/v1`,
  apiKey: process.env.INHOUSE_KEY,
});
const models = { chat: openai.chat('fake'), responses: openai.responses('fake') };

const report = z.object({ city: z.string(), degrees: z.number() });
const CALL = 'fake:call=weather fake:arguments={"city":"Bern"}';
const OBJECT = 'fake:say={"city":"Bern","degrees":21}';
const found = { city: 'Bern', degrees: 21 };

const weather = (asked) =>
  tool({
    description: 'Tell the weather of a city.',
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      asked.push(city);
      return 'fake:call=none fake:say=It_is_sunny.';
    },
  });

const checks = {
  async text(model) {
    const answer = await generateText({
      model,
      maxRetries: 0,
      system: 'Be brief.',
      prompt: 'fake:tokens=3',
    });
    assert.equal(answer.text, 'w0 w1 w2');
    assert.equal(answer.finishReason, 'stop');
    assert.equal(answer.usage.outputTokens, 3);
  },

  async bound(model) {
    const prompt = 'fake:tokens=30';
    const answer = await generateText({ model, maxRetries: 0, maxOutputTokens: 16, prompt });
    assert.equal(answer.text.split(' ').length, 16);
    assert.equal(answer.finishReason, 'length');
  },

  async stream(model) {
    const answer = streamText({ model, maxRetries: 0, prompt: 'fake:tokens=4' });
    const parts = [];
    for await (const part of answer.textStream) parts.push(part);
    assert.equal(parts.length, 4);
    assert.equal(parts.join(''), 'w0 w1 w2 w3');
    assert.equal((await answer.usage).outputTokens, 4);
  },

  async tools(model) {
    const asked = [];
    const answer = await generateText({
      model,
      maxRetries: 0,
      prompt: CALL,
      tools: { weather: weather(asked) },
      stopWhen: stepCountIs(3),
    });
    assert.deepEqual(asked, ['Bern']);
    assert.equal(answer.text, 'It is sunny.');
    assert.equal(answer.steps.length, 2);
  },

  async tools_stream(model) {
    const asked = [];
    const answer = streamText({
      model,
      maxRetries: 0,
      prompt: CALL,
      tools: { weather: weather(asked) },
      stopWhen: stepCountIs(3),
    });
    const kinds = [];
    for await (const part of answer.fullStream) kinds.push(part.type);
    assert.deepEqual(asked, ['Bern']);
    assert.equal(await answer.text, 'It is sunny.');
    for (const kind of ['tool-input-delta', 'tool-call', 'tool-result', 'finish'])
      assert.ok(kinds.includes(kind), kind);
    assert.ok(!kinds.includes('error'));
  },

  async forced_tool(model) {
    const answer = await generateText({
      model,
      maxRetries: 0,
      prompt: 'fake:arguments={"city":"Bern"}',
      tools: { weather: tool({ inputSchema: z.object({ city: z.string() }) }) },
      toolChoice: { type: 'tool', toolName: 'weather' },
    });
    assert.deepEqual(answer.toolCalls[0].input, { city: 'Bern' });
  },

  async object(model) {
    const answer = await generateObject({ model, maxRetries: 0, schema: report, prompt: OBJECT });
    assert.deepEqual(answer.object, found);
  },

  async object_stream(model) {
    const answer = streamObject({ model, maxRetries: 0, schema: report, prompt: OBJECT });
    let last;
    for await (last of answer.partialObjectStream);
    assert.deepEqual(last, found);
    assert.deepEqual(await answer.object, found);
  },

  async output(model) {
    const output = Output.object({ schema: report });
    const answer = await generateText({ model, maxRetries: 0, output, prompt: OBJECT });
    assert.deepEqual(answer.output, found);
  },

  async several_turns(model) {
    const messages = [
      { role: 'user', content: 'fake:say=One.' },
      { role: 'assistant', content: [{ type: 'text', text: 'One.' }] },
      { role: 'user', content: [{ type: 'text', text: 'fake:say=Two.' }] },
    ];
    assert.equal((await generateText({ model, maxRetries: 0, messages })).text, 'Two.');
  },

  async refusal(model) {
    await assert.rejects(
      generateText({ model, maxRetries: 0, temperature: 9, prompt: 'x' }),
      (error) => error.statusCode === 400 && /temperature/.test(error.message),
    );
  },
};

const told = async (name, check) => {
  let error = null;
  try {
    await check();
  } catch (thrown) {
    error = `${thrown.stack}\n${thrown.responseBody ?? ''}`;
  }
  console.log(JSON.stringify({ check: name, error }));
};

for (const [kind, model] of Object.entries(models))
  for (const [name, check] of Object.entries(checks))
    await told(`${kind}_${name}`, () => check(model));

await told('responses_reasoning', async () => {
  const model = models.responses;
  const answer = await generateText({ model, maxRetries: 0, prompt: 'fake:think=2 fake:tokens=1' });
  assert.equal(answer.text, 'w0');
});

await told('responses_go_on', async () => {
  const model = models.responses;
  const first = await generateText({ model, maxRetries: 0, prompt: 'fake:say=One.' });
  const previousResponseId = first.providerMetadata.openai.responseId;
  const second = await generateText({
    model,
    maxRetries: 0,
    prompt: 'fake:say=Two.',
    providerOptions: { openai: { previousResponseId } },
  });
  assert.equal(second.text, 'Two.');
});

await told('embeddings', async () => {
  const model = openai.embedding('vectors');
  const { embeddings } = await embedMany({ model, maxRetries: 0, values: ['a cat', 'a dog'] });
  assert.deepEqual(embeddings.map((one) => one.length), [384, 384]);
});

console.log(JSON.stringify({ done: true }));
