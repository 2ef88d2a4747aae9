network:
  tools: {llm: {calls: "zwölf"}, größe: 3}
