// Requests as they are sent from elsewhere: by curl, and by openai's client for Python.

const addressOf = (path) => new URL(path, location.href).href;
const shellQuoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A value of a request as Python writes it; JSON's escapes in texts are Python's, too. */
function python(value) {
  if (value === true) return "True";
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one)}`).join(", ")}}`;
}

function curl(requests, keyed) {
  const headers = ["-H 'Content-Type: application/json'"];
  if (keyed) headers.unshift('-H "Authorization: Bearer $SOFTPROMPT_API_KEY"');
  const one = ({ path, body }) =>
    [`curl ${shellQuoted(addressOf(path))}`, ...headers, `-d ${shellQuoted(JSON.stringify(body))}`].join(" \\\n  ");
  return requests.map(one).join("\n\n");
}

function pythonClient(requests, keyed) {
  const key = keyed ? 'os.environ["SOFTPROMPT_API_KEY"]' : '"none"';
  const imports = `${keyed ? "import os\n\n" : ""}from openai import OpenAI`;
  const client = `client = OpenAI(base_url=${python(addressOf("v1"))}, api_key=${key})`;
  const one = ({ path, body: { raw, ...body } }) => {
    if (path === "v1/classify") {
      const whole = python(raw ? { ...body, raw } : body);
      const call = `found = client.post("/classify", cast_to=object, body=${whole})`;
      return `${call}\nprint(found["data"][0]["probabilities"])`;
    }
    const given = Object.entries(raw ? { ...body, extra_body: { raw } } : body);
    const lines = given.map(([name, value]) => `    ${name}=${python(value)},\n`).join("");
    return `answer = client.completions.create(\n${lines})\nprint(answer.choices[0].text)`;
  };
  return [imports, client, ...requests.map(one)].join("\n\n");
}

/** Requests in a language, `curl` or `python`; with the key's place, where one is needed. */
export function codeOf(language, requests, keyed) {
  return (language === "curl" ? curl : pythonClient)(requests, keyed);
}
