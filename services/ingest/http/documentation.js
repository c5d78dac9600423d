// This Swagger UI only shows OpenAPI 3.0 documents; ours is valid in both versions.
fetch("openapi.json")
  .then((response) => response.json())
  .then((spec) => SwaggerUIBundle({ spec: { ...spec, openapi: "3.0.3" }, dom_id: "#page", deepLinking: true }));
